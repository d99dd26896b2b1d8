from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmdet.errors import UserValueError

from .overlaps import bbox_overlaps


def _match_greedily(ious: np.ndarray) -> np.ndarray:
    """IoU of each row's partner, (rows,): the best pair of all first, then the best of what is left, one to one."""
    ious = ious.copy()
    matched = np.zeros(len(ious), dtype=np.float32)
    for _ in range(min(ious.shape)):
        row, column = divmod(int(ious.argmax()), ious.shape[1])
        matched[row] = ious[row, column]
        ious[row] = ious[:, column] = -1
    return matched


def eval_recalls(
    gts: Sequence[np.ndarray],
    proposals: Sequence[np.ndarray],
    proposal_nums: int | Sequence[int] | None = None,
    iou_thrs: float | Sequence[float] | np.ndarray = 0.5,
    logger: Any = None,
    use_legacy_coordinate: bool = False,
) -> np.ndarray:
    """Recall of class-agnostic proposals, (len(proposal_nums), len(iou_thrs)).

    Args:
        gts: For each image (g, 4) xyxy.
        proposals: For each image (p, 4), best first, or (p, 5) with the score last.
        proposal_nums: Proposals kept of each image; (100, 300, 1000) by default.
    """
    if len(gts) != len(proposals):
        raise UserValueError(f'{len(gts)} images with ground truth, but {len(proposals)} with proposals.')
    nums = np.atleast_1d(np.asarray((100, 300, 1000) if proposal_nums is None else proposal_nums))
    thrs = np.atleast_1d(np.asarray(iou_thrs, dtype=float))
    best: list[list[np.ndarray]] = [[] for _ in nums]
    for gt, proposal in zip(gts, proposals, strict=True):
        gt = np.asarray(gt).reshape(-1, 4)
        if proposal.ndim == 2 and proposal.shape[1] == 5:
            proposal = proposal[np.argsort(-proposal[:, 4], kind='stable')]
        ious = bbox_overlaps(gt, proposal[: nums.max(), :4], use_legacy_coordinate=use_legacy_coordinate)
        for matched, num in zip(best, nums, strict=True):
            matched.append(_match_greedily(ious[:, :num]))
    total = max(sum(len(gt) for gt in gts), 1)
    recalls = np.array([[(np.concatenate(m) >= thr).sum() / total for thr in thrs] for m in best])
    print_recall_summary(recalls, nums, thrs, logger=logger)
    return recalls


def print_recall_summary(
    recalls: np.ndarray,
    proposal_nums: Sequence[int] | np.ndarray,
    iou_thrs: Sequence[float] | np.ndarray,
    row_idxs: Sequence[int] | None = None,
    col_idxs: Sequence[int] | None = None,
    logger: Any = None,
) -> None:
    """Print the recalls with a row for each number of proposals and a column for each IoU threshold."""
    from terminaltables import AsciiTable

    rows = range(len(proposal_nums)) if row_idxs is None else row_idxs
    columns = range(len(iou_thrs)) if col_idxs is None else col_idxs
    table = [[''] + [f'{iou_thrs[c]:.2f}' for c in columns]]
    table += [[str(proposal_nums[r])] + [f'{recalls[r, c]:.3f}' for c in columns] for r in rows]
    print_log('\n' + AsciiTable(table).table, logger=logger)


def set_recall_param(
    proposal_nums: int | Sequence[int], iou_thrs: float | Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; the IoU threshold is 0.5 by default."""
    return np.atleast_1d(np.asarray(proposal_nums)), np.atleast_1d(np.asarray(0.5 if iou_thrs is None else iou_thrs))


def plot_num_recall(recalls: Sequence[float] | np.ndarray, proposal_nums: Sequence[int] | np.ndarray) -> None:
    """Show recall over the number of proposals."""
    _plot(proposal_nums, recalls, 'Proposal num', (0, max(proposal_nums)))


def plot_iou_recall(recalls: Sequence[float] | np.ndarray, iou_thrs: Sequence[float] | np.ndarray) -> None:
    """Show recall over the IoU threshold; it ends at an IoU of 1 with no recall."""
    _plot([*iou_thrs, 1.0], [*recalls, 0.0], 'IoU', (iou_thrs[0], 1.0))


def _plot(x: Any, recalls: Any, label: str, limits: tuple[float, float]) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots()
    axes.plot(np.asarray(x), np.asarray(recalls))
    axes.set(xlabel=label, ylabel='Recall', xlim=limits, ylim=(0, 1))
    plt.show()
