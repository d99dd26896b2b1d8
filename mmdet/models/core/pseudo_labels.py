"""Boxes that one network finds and another is trained on: chosen, moved from picture to picture, and jittered.

Letters: B images, G padded boxes, T copies of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdet.errors import UserKeyError
from mmdet.structures.bbox import get_box_tensor, get_box_wh

from .gt import pad_batch


def keep_instances(batch_data_samples: Sequence, keep: Sequence[Tensor]) -> Sequence:
    """Keep, in place, the ground truths where ``keep``, a bool ``(n,)`` of each image, is true.

    The host waits twice, for the whole batch.
    """
    counts = torch.stack([mask.sum() for mask in keep]).tolist()
    start = 0
    for sample, places in zip(batch_data_samples, torch.cat(list(keep)).nonzero().flatten().split(counts)):
        count = len(sample.gt_instances)
        sample.gt_instances = sample.gt_instances[places - start]
        start += count
    return batch_data_samples


def filter_gt_instances(
    batch_data_samples: Sequence, score_thr: float | None = None, wh_thr: tuple[float, float] | None = None
) -> Sequence:
    """Keep, in place, the ground truths (or pseudo labels) that score above and are larger than the thresholds."""
    keep = []
    for sample in batch_data_samples:
        instances = sample.gt_instances
        inside = get_box_tensor(instances.bboxes).new_ones(len(instances), dtype=torch.bool)
        if score_thr is not None and len(instances):
            inside = inside & (instances.scores > score_thr)
        if wh_thr is not None and len(instances):
            width, height = get_box_wh(instances.bboxes)
            inside = inside & (width > wh_thr[0]) & (height > wh_thr[1])
        keep.append(inside)
    return keep_instances(batch_data_samples, keep) if keep else batch_data_samples


def homographies(metas: Sequence[dict]) -> Tensor:
    """``(B, 3, 3)`` float64 matrices that take points of the loaded pictures to those of the network."""
    for meta in metas:
        if meta.get('homography_matrix') is None:
            raise UserKeyError(
                f"{meta.get('img_path', 'a picture')} has no 'homography_matrix', which takes boxes from one branch to "
                'another: put it into the meta_keys of PackDetInputs, after a Resize or RandomFlip, which record it'
            )
    return torch.as_tensor(np.stack([np.asarray(meta['homography_matrix'], np.float64) for meta in metas]))


def project_boxes(boxes: Tensor, matrices: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
    """The boxes around the projected corners of ``boxes (B, G, 4)``, clipped to the pictures.

    Args:
        matrices: ``(B, 3, 3)`` homographies.
        shapes: Height and width of each picture that the boxes come into.
    """
    matrices = matrices.to(boxes)
    corners = boxes[..., [0, 1, 2, 1, 0, 3, 2, 3]].unflatten(-1, (4, 2))  # (B, G, 4, 2)
    points = torch.einsum('bgci,bji->bgcj', torch.nn.functional.pad(corners, (0, 1), value=1.0), matrices)
    points = points[..., :2] / points[..., 2:]
    moved = torch.cat([points.amin(2), points.amax(2)], -1)
    sizes = boxes.new_tensor([[shape[1], shape[0]] * 2 for shape in shapes])
    return torch.minimum(moved.clamp(min=0), sizes[:, None])


def project_lists(boxes: Sequence[Tensor], matrices: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """:func:`project_boxes` of the ``(n, 4)`` boxes of each image."""
    moved = project_boxes(pad_batch(boxes), matrices, shapes)
    return [image[: len(own)] for image, own in zip(moved, boxes)]


def jittered(boxes: Tensor, times: int, frac: float) -> Tensor:
    """``(T, n, 4)`` copies of ``boxes (n, 4)`` whose corners are moved at random.

    Args:
        frac: Standard deviation of the moves, in widths and heights of at least a pixel.
    """
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).repeat(1, 2)
    return boxes + torch.randn(times, len(boxes), 4, device=boxes.device) * size * frac


def relative_spread(boxes: Tensor) -> Tensor:
    """``(B, G)`` mean deviation of the coordinates of ``boxes (B, G, T, 4)`` over T, in sides of their mean box."""
    mean = boxes.mean(2)
    size = (mean[..., 2:] - mean[..., :2]).clamp(min=1).repeat(1, 1, 2)
    return (boxes.std(2) / size).mean(-1)
