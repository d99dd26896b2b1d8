"""What it costs to match a query to a ground truth.

Letters: N problems (decoder layers times images), Q queries, G padded ground truths, M elements of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.models.core import PaddedGT, QueryPairs, by_batch, columns_of_labels, constant, cost_of_terms, dice_cost
from mmdet.models.core.set_matching import focal_terms
from mmdet.models.task_modules.joints import cost_of_each_image
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, bbox_xyxy_to_cxcywh, get_box_tensor


def pairs_of_image(
    pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None = None
) -> QueryPairs:
    """The pairs of one image, as a batch of one."""
    predictions = {
        name: get_box_tensor(pred_instances[name])[None]
        for name in ('scores', 'bboxes', 'masks')
        if name in pred_instances
    }
    like = next(iter(predictions.values()))
    sizes = None
    if img_meta and 'img_shape' in img_meta:
        height, width = img_meta['img_shape'][:2]
        sizes = constant([[width, height] * 2], like.float())
    known = gt_instances
    if 'bboxes' not in known:  # masks and labels alone
        known = InstanceData(**dict(known.items()), bboxes=like.new_zeros(len(known), 4))
    if 'labels' not in known:
        known = InstanceData(**dict(known.items()), labels=like.new_zeros(len(known), dtype=torch.long))
    gt = PaddedGT.from_instances([known])
    gt.instances = [gt_instances]
    return QueryPairs(gt, **predictions, sizes=sizes, metas=[img_meta])


def total_cost(costs: Sequence[Any], pairs: QueryPairs) -> Tensor:
    """``(N, Q, G)`` the sum of all ``costs``. In memory the queries lie innermost: there are more of them."""
    return torch.cat([_sum_of_costs(costs, part) for part in pairs.parts()]).mT


def _sum_of_costs(costs: Sequence[Any], pairs: QueryPairs) -> Tensor:
    """``(N, G, Q)``."""
    batched = [getattr(cost, 'batched', False) for cost in costs]
    each = [c.cost_batch(pairs) if whole else cost_of_each_image(c, pairs) for c, whole in zip(costs, batched)]
    first, *others = (cost.mT for cost in each)
    return sum(others, first.contiguous())


class BaseMatchCost:
    """A cost of pairs.

    A cost of ours implements :meth:`cost_batch` and gets the call for one image from it. Research code that overrides
    the call, or a method in ``joints``, is called once for each decoder layer and image.

    Args:
        weight: Factor of the cost.
    """

    joints: tuple[str, ...] = ()
    """Methods of one image that :meth:`cost_batch` uses with a leading axis."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @property
    def batched(self) -> bool:
        """Whether nothing of it works image by image."""
        methods = [type(self).__call__, *(getattr(type(self), name) for name in self.joints)]
        return all(hasattr(method, 'by_batch') for method in methods)

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        """``(N, Q, G)`` costs; columns of ground truths that do not exist may hold anything."""
        raise UserNotImplementedError(f'{type(self).__name__} implements neither cost_batch nor __call__')

    @by_batch
    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None = None, **kwargs: Any
    ) -> Tensor:
        """``(Q, g)`` costs of one image.

        Args:
            pred_instances: ``scores (Q, C)`` logits, ``bboxes (Q, 4)`` xyxy in pixels or ``masks (Q, ...)`` logits.
            gt_instances: ``labels``, ``bboxes`` or ``masks``.
            img_meta: Has the ``img_shape`` by which boxes are normalised.
        """
        return self.cost_batch(pairs_of_image(pred_instances, gt_instances, img_meta))[0, :, : len(gt_instances)]


def l1_distances(boxes: Tensor, others: Tensor) -> Tensor:
    """``(N, G, Q)`` of ``(N, G, D)`` and ``(N, Q, D)``, one coordinate after the other: for the few of a box ``cdist``
    takes longer on a CPU and on a GPU."""
    columns = zip(boxes.unbind(-1), others.mT.contiguous().unbind(-2))
    apart = ((one[..., None] - other[..., None, :]).abs_() for one, other in columns)
    total = next(apart)
    for distance in apart:
        total += distance
    return total


@TASK_UTILS.register_module()
class BBoxL1Cost(BaseMatchCost):
    """L1 distance of boxes in parts of the image.

    Args:
        box_format: 'xyxy', or 'xywh' for the distance of centres and sizes.
    """

    def __init__(self, box_format: str = 'xyxy', weight: float = 1.0) -> None:
        super().__init__(weight)
        if box_format not in ('xyxy', 'xywh'):
            raise UserValueError(f"box_format must be 'xyxy' or 'xywh', not {box_format!r}")
        self.box_format = box_format

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        if pairs.bboxes is None or pairs.sizes is None:
            raise UserValueError('BBoxL1Cost needs predicted bboxes, and the img_shape of the image')
        boxes, truth = pairs.bboxes, pairs.gt.boxes.to(pairs.bboxes.dtype)
        if self.box_format == 'xywh':
            boxes, truth = bbox_xyxy_to_cxcywh(boxes), bbox_xyxy_to_cxcywh(truth)
        sizes = pairs.sizes[:, None].to(boxes.dtype)
        return l1_distances(truth / sizes, boxes / sizes).mul_(self.weight).mT


@TASK_UTILS.register_module()
class IoUCost(BaseMatchCost):
    """Negative overlap of boxes.

    Args:
        iou_mode: 'iou' or 'giou'.
    """

    def __init__(self, iou_mode: str = 'giou', weight: float = 1.0) -> None:
        super().__init__(weight)
        self.iou_mode = iou_mode

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        if pairs.bboxes is None:
            raise UserValueError('IoUCost needs predicted bboxes')
        boxes, truth = pairs.bboxes, pairs.gt.boxes.to(pairs.bboxes.dtype)
        if self.iou_mode == 'iof':  # by the area of the query, which comes first
            return bbox_overlaps(boxes, truth, mode='iof').mul_(-self.weight)
        return bbox_overlaps(truth, boxes, mode=self.iou_mode).mul_(-self.weight).mT


def _scores(pairs: QueryPairs, cost: BaseMatchCost) -> Tensor:
    if pairs.scores is None:
        raise UserValueError(f'{type(cost).__name__} needs predicted scores')
    return pairs.scores


def _masks(pairs: QueryPairs, cost: BaseMatchCost) -> tuple[Tensor, Tensor]:
    """``(N, Q, M)`` logits and ``(N, G, M)`` targets."""
    if pairs.masks is None:
        raise UserValueError(f'{type(cost).__name__} needs predicted masks')
    return pairs.masks.flatten(2).float(), pairs.of_gt('masks').flatten(2).float()


@TASK_UTILS.register_module()
class ClassificationCost(BaseMatchCost):
    """Negative probability of the class, by softmax (DETR, arXiv:2005.12872, Sec. 3.1)."""

    def __init__(self, weight: float = 1) -> None:
        super().__init__(weight)

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        return -self.weight * columns_of_labels(_scores(pairs, self).softmax(-1), pairs.gt.labels)


@TASK_UTILS.register_module()
class FocalLossCost(BaseMatchCost):
    """Focal loss of the class as a positive, less its loss as a negative (Deformable DETR's).

    Args:
        binary_input: Compare masks, element by element, not classes.
    """

    joints = ('_focal_loss_cost', '_mask_focal_loss_cost')

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2,
        eps: float = 1e-12,
        binary_input: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.alpha, self.gamma, self.eps, self.binary_input = alpha, gamma, eps, binary_input

    def _terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return focal_terms(logits, self.alpha, self.gamma, self.eps)

    @by_batch
    def _focal_loss_cost(self, cls_pred: Tensor, gt_labels: Tensor) -> Tensor:
        """``(..., Q, G)`` of logits ``(..., Q, C)`` and ``(..., G)``."""
        positive, negative = self._terms(columns_of_labels(cls_pred, gt_labels))
        return positive.sub_(negative).mul_(self.weight)

    @by_batch
    def _mask_focal_loss_cost(self, cls_pred: Tensor, gt_labels: Tensor) -> Tensor:
        """``(..., Q, G)`` of logits ``(..., Q, M)`` and ``(..., G, M)``: the mean over M."""
        return cost_of_terms(*self._terms(cls_pred), gt_labels) / cls_pred.shape[-1] * self.weight

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        if self.binary_input:
            return self._mask_focal_loss_cost(*_masks(pairs, self))
        return self._focal_loss_cost(_scores(pairs, self), pairs.gt.labels)


@TASK_UTILS.register_module()
class BinaryFocalLossCost(FocalLossCost):
    """Focal loss over the tokens of a text, summed over those that ``gt_instances.text_token_mask`` marks.

    ``gt_instances.positive_maps (g, T)`` tell the tokens of each object.
    """

    @by_batch
    def _focal_loss_cost(self, cls_pred: Tensor, gt_labels: Tensor) -> Tensor:
        """``(..., Q, G)`` of logits ``(..., Q, T)`` and ``(..., G, T)``."""
        return cost_of_terms(*self._terms(cls_pred), gt_labels) * self.weight

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        logits = _scores(pairs, self)
        used = pairs.of_gt('text_token_mask')[:, :1]  # the same for all objects of an image
        used = torch.nn.functional.pad(used, (0, logits.shape[-1] - used.shape[-1]))  # a short text has fewer
        # Tokens that are left out are as sure as can be, and no object has them: they cost nothing.
        logits = torch.where(used, logits, -torch.inf)
        return self._focal_loss_cost(logits, pairs.of_gt('positive_maps') * used)


@TASK_UTILS.register_module()
class DiceCost(BaseMatchCost):
    """Dice loss of masks.

    Args:
        pred_act: Whether predictions are logits; otherwise they are probabilities.
        naive_dice: Whether the sums in the denominator are not squared.
    """

    joints = ('_binary_mask_dice_loss',)

    def __init__(self, pred_act: bool = False, eps: float = 1e-3, naive_dice: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.pred_act, self.eps, self.naive_dice = pred_act, eps, naive_dice

    @by_batch
    def _binary_mask_dice_loss(self, mask_preds: Tensor, gt_masks: Tensor) -> Tensor:
        """``(..., Q, G)`` of probabilities ``(..., Q, M)`` and ``(..., G, M)``."""
        return dice_cost(mask_preds, gt_masks, self.eps, self.naive_dice)

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        masks, target = _masks(pairs, self)
        return self._binary_mask_dice_loss(masks.sigmoid() if self.pred_act else masks, target) * self.weight


@TASK_UTILS.register_module()
class CrossEntropyLossCost(BaseMatchCost):
    """Mean binary cross entropy of masks.

    Args:
        use_sigmoid: Only True is defined.
    """

    joints = ('_binary_cross_entropy',)

    def __init__(self, use_sigmoid: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not use_sigmoid:
            raise UserNotImplementedError('CrossEntropyLossCost is defined with use_sigmoid=True only')
        self.use_sigmoid = use_sigmoid

    @by_batch
    def _binary_cross_entropy(self, cls_pred: Tensor, gt_labels: Tensor) -> Tensor:
        """``(..., Q, G)`` of logits ``(..., Q, M)`` and ``(..., G, M)``."""
        softplus = torch.nn.functional.softplus
        return cost_of_terms(softplus(-cls_pred), softplus(cls_pred), gt_labels) / cls_pred.shape[-1]

    def cost_batch(self, pairs: QueryPairs) -> Tensor:
        return self._binary_cross_entropy(*_masks(pairs, self)) * self.weight
