"""Matching of queries to ground truths as an assignment problem, all decoder layers and images at once.

Letters: L decoder layers, B images, N problems, which are L * B with the layers outside, Q queries, G padded ground
truths, C classes, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmdet.ops.fixed_size import is_at_hand
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

from .gt import PaddedGT, pad_batch
from .precision import as_float32

NARROW_FROM = 4096
"""With more queries than this only those that can be matched travel to the host."""

CPU_PAIRS = 2**18
"""Pairs of queries and ground truths whose costs a thread of a CPU computes at once, so that its cache holds them."""

EPS = torch.finfo(torch.float32).eps

APART = {'cpu'}
"""Devices on which :func:`joined` leaves groups as they are."""

FINITE: dict[str, Any] = dict(nan=1e8, posinf=1e8, neginf=-1e8)
"""Stands for costs that are not finite, so that a diverged network is matched and its loss tells the tale."""


@dataclass
class QueryPairs:
    """What costs compare.

    Attributes:
        gt: Ground truths of the N problems, in pixels.
        scores: ``(N, Q, C)`` logits.
        bboxes: ``(N, Q, 4)`` xyxy in pixels.
        masks: ``(N, Q, ...)`` logits.
        sizes: ``(N, 4)`` width, height, width, height of each image.
        metas: Meta information of each image, for code that works image by image.
        usable: ``(N, Q)`` bool, the queries that take part, or None for all.
        fields: What else is known of ground truths, each ``(N, G, ...)``; see :meth:`of_gt`.
    """

    gt: PaddedGT
    scores: Tensor | None = None
    bboxes: Tensor | None = None
    masks: Tensor | None = None
    sizes: Tensor | None = None
    metas: Sequence[dict | None] = ()
    usable: Tensor | None = None
    fields: dict[str, Tensor] = field(default_factory=dict)

    @property
    def predictions(self) -> dict[str, Tensor]:
        """``scores``, ``bboxes`` and ``masks``, those that are there."""
        given = dict(scores=self.scores, bboxes=self.bboxes, masks=self.masks)
        return {name: value for name, value in given.items() if value is not None}

    def parts(self) -> list[QueryPairs]:
        """The same in parts that are fast to compute with, one after the other: on a CPU some problems each."""
        some = next(iter(self.predictions.values()))
        problems, queries = some.shape[:2]
        step = max(1, CPU_PAIRS * torch.get_num_threads() // (queries * self.gt.mask.shape[1]))
        if not is_at_hand(some) or step >= problems:
            return [self]
        return [self._part(slice(start, start + step)) for start in range(0, problems, step)]

    def _part(self, part: slice) -> QueryPairs:
        cut = lambda value: None if value is None else value[part]
        values = {name: cut(getattr(self, name)) for name in ('scores', 'bboxes', 'masks', 'sizes', 'usable')}
        fields = {name: value[part] for name, value in self.fields.items()}
        return QueryPairs(self.gt.images(part), **values, metas=self.metas[part], fields=fields)

    def of_gt(self, name: str) -> Tensor:
        """``(N, G, ...)`` a field of the ground truths, padded from what each image has."""
        if name not in self.fields:
            self.fields[name] = pad_batch([instances[name] for instances in self.gt.instances])
        return self.fields[name]


@dataclass
class QueryOutputs:
    """What decoder layers predict, and for what.

    Attributes:
        scores: ``(L, B, Q, C)`` logits.
        boxes: ``(L, B, Q, 4)`` cx, cy, w, h in parts of the image.
        gt: Ground truths of the B images, in pixels.
        usable: ``(L, B, Q)`` bool, the queries that take part, or None for all.
    """

    scores: Tensor
    boxes: Tensor
    gt: PaddedGT
    usable: Tensor | None = None

    def pairs(self, sizes: Tensor, metas: Sequence[dict]) -> QueryPairs:
        """Costs see logits, and boxes in pixels; ``sizes (B, 4)`` as in :class:`QueryPairs`. No gradient is kept."""
        layers = len(self.scores)
        with torch.no_grad():
            boxes = bbox_cxcywh_to_xyxy(self.boxes.detach()) * sizes[:, None]
        return QueryPairs(
            self.gt.repeated(layers),
            self.scores.detach().flatten(0, 1),
            boxes.flatten(0, 1),
            sizes=sizes.repeat(layers, 1),
            metas=list(metas) * layers,
            usable=None if self.usable is None else self.usable.flatten(0, 1),
        )


# ------------------------------------------------------------------------------------------------- costs


def columns_of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """``(..., Q, G)`` of ``values (..., Q, C)``: the column of the class of each ground truth, ``labels (..., G)``."""
    return values.gather(-1, labels.unsqueeze(-2).expand(*values.shape[:-1], labels.shape[-1]))


def focal_terms(logits: Tensor, alpha: float, gamma: float, eps: float) -> tuple[Tensor, Tensor]:
    """Focal loss of each logit if it is a positive, and if it is a negative (arXiv:1708.02002, Eq. 5)."""
    present = logits.sigmoid()
    absent = 1 - present
    positive = (present + eps).log_().mul_(-alpha).mul_(absent.pow(gamma))
    negative = absent.add_(eps).log_().mul_(alpha - 1).mul_(present.pow_(gamma))
    return positive, negative


def cost_of_terms(positive: Tensor, negative: Tensor, target: Tensor) -> Tensor:
    """``(..., Q, G)`` sums of terms ``(..., Q, M)`` over M: the positive ones where ``target (..., G, M)`` is 1, the
    negative ones where it is 0."""
    target = target.to(positive.dtype).transpose(-1, -2)
    return positive @ target + negative @ (1 - target)


def dice_cost(masks: Tensor, target: Tensor, eps: float, naive: bool) -> Tensor:
    """``(..., Q, G)`` Dice losses of ``(..., Q, M)`` and ``(..., G, M)``; V-Net's (arXiv:1606.04797) unless ``naive``,
    which does not square the sums."""
    total = (lambda x: x.sum(-1)) if naive else (lambda x: x.square().sum(-1))
    overlap = 2 * masks @ target.transpose(-1, -2)
    return 1 - (overlap + eps) / (total(masks).unsqueeze(-1) + total(target).unsqueeze(-2) + eps)


# ---------------------------------------------------------------------------------------------- matching


def solve(
    costs: Sequence[Tensor], counts: Sequence[Sequence[int]], copies: Sequence[Sequence[int]] | None = None
) -> list[Tensor]:
    """The cheapest matching of every problem, in which each query has at most one ground truth.

    All costs travel to the host in one transfer, all results back in one.

    Args:
        costs: ``[(N, Q, G)]``, groups of problems whose N, Q and G may differ.
        counts: ``[[g]]`` of each group: only the first g ground truths of a problem exist.
        copies: ``[[n]]`` of each group: how many queries each ground truth of a problem gets; 1 if not given.

    Returns:
        ``[(N, Q)]``: i + 1 for a query that is matched to ground truth i, 0 for all others.
    """
    copies = [[1] * len(group) for group in counts] if copies is None else copies
    most = [max(n * c for n, c in zip(group, number)) for group, number in zip(counts, copies)]
    groups = [_narrowed(cost.detach().float(), wanted) for cost, wanted in zip(costs, most)]
    shapes = [tuple(cost.shape) for cost in costs]
    found = solve_on_host(_on_host([part for group in groups for part in group]), shapes, counts, copies)
    found = found.to(costs[0].device, non_blocking=True).long()
    sizes = [n * queries for n, queries, _ in shapes]
    return [part.view(n, queries) for part, (n, queries, _) in zip(found.split(sizes), shapes)]


def _narrowed(cost: Tensor, wanted: int) -> tuple[Tensor, ...]:
    """``(N, G, Q)`` costs; of many queries ``(N, G, K)`` costs of the cheapest and their indices, as float32.

    Where K queries are ``wanted`` at most, each ground truth has some of its K cheapest in some best matching: the
    others took fewer.
    """
    cost = cost.mT
    if not _narrows(cost.shape[2], wanted):
        return (cost,)
    values, index = cost.nan_to_num(**FINITE).topk(wanted, largest=False, sorted=False)
    return values, index.int().view(torch.float32)  # the bits, so that all is one transfer


def _narrows(queries: int, wanted: int) -> bool:
    return queries > max(NARROW_FROM, wanted)


def _on_host(parts: Sequence[Tensor]) -> list[Tensor]:
    """The same on the host, in one transfer."""
    if parts[0].is_cpu:
        return list(parts)
    flat = torch.cat([part.flatten() for part in parts]).cpu()  # the one wait
    return [piece.view(part.shape) for piece, part in zip(flat.split([part.numel() for part in parts]), parts)]


def solve_on_host(
    host: Sequence[Tensor], shapes: Sequence[tuple], counts: Sequence[Sequence[int]], copies: Sequence[Sequence[int]]
) -> Tensor:
    """What :func:`solve` does between the transfers; the flat ``int32`` results of all problems."""
    import numpy as np

    values, results = iter(host), []
    for (problems, queries, _), group, number in zip(shapes, counts, copies):
        costs = next(values).numpy()
        narrow = costs.shape[2] < queries
        candidates = next(values).numpy().view(np.int32) if narrow else costs
        inds = np.zeros((problems, queries), np.int32)
        for n, count in enumerate(group):
            if not count:
                continue
            table = costs[n, :count]
            if narrow:
                names, place = np.unique(candidates[n, :count], return_inverse=True)
                table = np.full((count, len(names)), np.inf)
                np.put_along_axis(table, place.reshape(count, -1), costs[n, :count], 1)
            rows, columns = _cheapest(table if number[n] == 1 else np.repeat(table, number[n], 0))
            inds[n, names[columns] if narrow else columns] = rows // number[n] + 1
        results.append(torch.from_numpy(inds).flatten())
    return torch.cat(results)


def _cheapest(table: Any) -> tuple[Any, Any]:
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    try:
        return linear_sum_assignment(table)
    except ValueError:  # costs that are not finite
        return linear_sum_assignment(np.nan_to_num(table, **FINITE))


# ------------------------------------------------------------------------------------------------ losses


def layer_losses(loss: Callable, pred: Tensor, target: Any, weight: Tensor, avg_factor: Tensor) -> Tensor:
    """``(L,)`` a loss of every layer.

    Args:
        loss: A loss module, called once; of classes once for each layer, unless its ``layer_sums`` takes all.
        pred: ``(L, B, Q, D)``.
        target: ``(L, B, Q, ...)``, or a tuple of such.
        weight: ``(L, B, Q, ...)``.
        avg_factor: ``(L,)``, what the sum of each layer is divided by.
    """
    if isinstance(target, Tensor) and target.dim() < pred.dim():
        layer_sums = getattr(loss, 'layer_sums', None)
        if layer_sums is not None:
            return layer_sums(pred, target, weight / (avg_factor + EPS)[:, None, None])
        each_layer = zip(pred, target.flatten(1), weight.flatten(1), avg_factor)
        return torch.stack([loss(p.flatten(0, 1), t, w, avg_factor=factor) for p, t, w, factor in each_layer])
    layers, rows = len(pred), pred.shape[1] * pred.shape[2]
    flat = lambda value: value.flatten(0, 2)
    target = tuple(map(flat, target)) if isinstance(target, tuple) else flat(target)
    each = loss(flat(pred), target, flat(weight), reduction_override='none')
    return each.unflatten(0, (layers, rows)).flatten(1).sum(1) / (avg_factor + EPS)


def joined(groups: Sequence[QueryOutputs]) -> tuple[list[QueryOutputs], list[list[int]]]:
    """Groups that follow one another, have as many queries and the same ground truths, as layers of one group; and how
    many layers each had. On a CPU a copy of the scores costs more than the operations that it saves."""
    runs: list[list[QueryOutputs]] = []
    for group in groups:
        alike = bool(runs) and all(
            type(one) is QueryOutputs and one.usable is None and one.gt is group.gt for one in (group, runs[-1][0])
        )
        if alike and group.scores.device.type not in APART and runs[-1][0].boxes.shape[2] == group.boxes.shape[2]:
            runs[-1].append(group)
        else:
            runs.append([group])
    cat = lambda run, name: torch.cat([getattr(group, name) for group in run])
    whole = [
        run[0] if len(run) == 1 else replace(run[0], scores=cat(run, 'scores'), boxes=cat(run, 'boxes')) for run in runs
    ]
    return whole, [[len(group.scores) for group in run] for run in runs]


def parted(losses: Sequence[tuple[Tensor, ...]], layers: Sequence[Sequence[int]]) -> list[tuple[Tensor, ...]]:
    """Losses ``(L,)`` of what :func:`joined` made, by the groups that it was given."""
    return [
        part for values, counts in zip(losses, layers) for part in zip(*(value.split(list(counts)) for value in values))
    ]


def float_outputs(groups: Sequence[QueryOutputs]) -> list[QueryOutputs]:
    """The same in float32, whatever the network ran in."""
    return [replace(group, scores=as_float32(group.scores), boxes=as_float32(group.boxes)) for group in groups]
