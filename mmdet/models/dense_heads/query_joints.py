"""The way through methods that research code overrides, of heads with queries.

As :mod:`joints`, which has what heads with priors share. Letters: L decoder layers, B images, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import DenseTargets, QueryOutputs, unmap

from .joints import TARGETS


class QueryTargets(DenseTargets):
    """Targets that unpack as DETR's ``get_targets`` does in MMDetection: lists by image of labels, label weights, box
    targets and box weights, then the numbers of positives and negatives."""

    @classmethod
    def of(cls, targets: DenseTargets) -> QueryTargets:
        """These targets."""
        return cls(**vars(targets))

    def __iter__(self) -> Iterator[Any]:
        for name in TARGETS:
            yield list(getattr(self, name))
        yield self.pos.sum()
        yield ((self.label_weights > 0) & ~self.pos).sum()


def targets_of_images(images: Sequence[Sequence[Tensor]], num_classes: int) -> DenseTargets:
    """Targets of a batch from those of each image: labels, label weights, box targets and box weights."""
    labels, label_weights, boxes, box_weights = (torch.stack(list(column)) for column in zip(*images))
    # Of a label its class, or which tokens of a text its name has.
    pos = labels.sum(-1) > 0 if labels.dim() > 2 else (labels >= 0) & (labels < num_classes)
    return DenseTargets(labels, label_weights, boxes, box_weights, pos, pos.sum())


def lists_of_images(images: Sequence[Sequence[Tensor]], num_classes: int) -> tuple:
    """What ``get_targets`` returns where the images have different numbers of queries."""
    lists = tuple(map(list, zip(*images)))
    pos = [(labels >= 0) & (labels < num_classes) for labels in lists[0]]
    neg = [(weights > 0) & ~mask for weights, mask in zip(lists[1], pos)]
    return *lists, sum(mask.sum() for mask in pos), sum(mask.sum() for mask in neg)


def image_targets(targets: DenseTargets) -> tuple[Tensor, ...]:
    """Labels, their weights, box targets, their weights, and indices of positives and negatives of the one image."""
    places = [mask[0].nonzero().flatten() for mask in (targets.pos, targets.gt_inds == 0)]
    return (*(getattr(targets, name)[0] for name in TARGETS), *places)


def targets_of_each_layer(head, group: QueryOutputs, metas: list[dict]) -> DenseTargets:
    """Targets ``(L * B, Q, ...)`` by an own ``get_targets`` or ``_get_targets_single``."""
    images: list[Sequence[Tensor]] = []
    instances = list(group.gt.instances)
    if group.usable is not None:
        return targets_of_usable(head, group, metas)
    for scores, boxes in zip(group.scores, group.boxes):
        if not hasattr(head.get_targets, 'by_batch'):
            images += zip(*tuple(head.get_targets(list(scores), list(boxes), instances, metas))[:4])
        else:
            images += [head._get_targets_single(*image)[:4] for image in zip(scores, boxes, instances, metas)]
    return targets_of_images(images, head.num_classes)


def targets_of_usable(head, group: QueryOutputs, metas: list[dict]) -> DenseTargets:
    """The same where the methods see only the queries that take part; the others have weights of zero."""
    images: list[Sequence[Tensor]] = []
    instances = list(group.gt.instances)
    for scores, boxes, usable in zip(group.scores, group.boxes, group.usable):
        lists = [s[keep] for s, keep in zip(scores, usable)], [b[keep] for b, keep in zip(boxes, usable)]
        if not hasattr(head.get_targets, 'by_batch'):
            found = list(zip(*tuple(head.get_targets(*lists, instances, metas))[:4]))
        else:
            found = [head._get_targets_single(*image)[:4] for image in zip(*lists, instances, metas)]
        for image, keep in zip(found, usable):
            fills = head.num_classes, 0.0, 0.0, 0.0
            images.append([unmap(value, len(keep), keep, fill) for value, fill in zip(image, fills)])
    return targets_of_images(images, head.num_classes)


def losses_of_each_layer(head, group: QueryOutputs, metas: list[dict]) -> tuple[Tensor, ...]:
    """``(L,)`` of each loss by an own ``loss_by_feat_single``."""
    layers = zip(group.scores, group.boxes)
    single = [head.loss_by_feat_single(*layer, list(group.gt.instances), metas) for layer in layers]
    return tuple(torch.stack(list(column)) for column in zip(*single))


def detections_of_each_image(head, scores: Tensor, boxes: Tensor, metas: Sequence[dict], rescale: bool) -> list:
    """Detections by an own ``_predict_by_feat_single``."""
    return [head._predict_by_feat_single(*image, rescale) for image in zip(scores, boxes, metas)]
