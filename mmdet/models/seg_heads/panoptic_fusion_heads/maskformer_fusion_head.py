"""What is made of queries that have a class and a mask each (MaskFormer, arXiv:2107.06278, Sec. 3.4).

Letters: B images, Q queries, C classes, H and W of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmdet.models.core import fixed_instances, rows_at
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.mask import INSTANCE_OFFSET, mask2bbox
from mmdet.utils import OptConfigType, OptMultiConfig

from .base_panoptic_fusion_head import BasePanopticFusionHead


@MODELS.register_module()
class MaskFormerFusionHead(BasePanopticFusionHead):
    """Panoptic and semantic maps, and instances.

    Args:
        test_cfg: ``panoptic_on``, ``semantic_on`` and ``instance_on`` say what is made; ``object_mask_thr``,
            ``iou_thr`` and ``filter_low_score`` are those of :meth:`panoptic_postprocess`, ``max_per_image`` that of
            :meth:`instance_postprocess`.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        test_cfg: OptConfigType = None,
        loss_panoptic: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, loss_panoptic, init_cfg, **kwargs)

    def loss(self, **kwargs: Any) -> dict:
        """None: nothing is learned."""
        return {}

    enlarged = 'logits'
    """Masks of exported graphs, as :class:`mmdet.export.Metadata` tells it."""

    def _option(self, name: str, default: Any) -> Any:
        return (self.test_cfg or {}).get(name, default)

    def panoptic_postprocess(self, mask_cls: Tensor, mask_pred: Tensor) -> PixelData:
        """``sem_seg (1, H, W)`` int32: ``label + instance * INSTANCE_OFFSET`` for things, whose instances count from 1,
        the label for stuff, ``num_classes`` for neither.

        Queries surer of a class than ``object_mask_thr`` compete for the pixels. One that gets less than ``iou_thr`` of
        what its own mask claims gets nothing; with ``filter_low_score`` nobody gets pixels that it does not claim.

        Args:
            mask_cls: ``(Q, C + 1)`` logits.
            mask_pred: ``(Q, H, W)`` logits.
        """
        scores, labels = mask_cls.softmax(-1).max(-1)
        keep = (labels != self.num_classes) & (scores > self._option('object_mask_thr', 0.8))
        scores, labels, masks = scores[keep], labels[keep], mask_pred[keep].sigmoid()
        if not len(masks):
            return PixelData(sem_seg=labels.new_full((1, *masks.shape[-2:]), self.num_classes, dtype=torch.int32))
        owner = (scores[:, None, None] * masks).argmax(0)  # (H, W)
        won = owner.flatten().bincount(minlength=len(masks)).double()
        claims = masks >= 0.5
        claimed = claims.flatten(1).sum(1).double()
        stays = (won > 0) & (claimed > 0) & (won / claimed >= self._option('iou_thr', 0.8))
        thing = stays & (labels < self.num_things_classes)
        ids = torch.where(stays, labels, self.num_classes) + thing * thing.cumsum(0) * INSTANCE_OFFSET
        panoptic = ids[owner]
        if self._option('filter_low_score', False):
            panoptic = torch.where(claims.gather(0, owner[None])[0], panoptic, self.num_classes)
        return PixelData(sem_seg=panoptic.int()[None])

    def semantic_postprocess(self, mask_cls: Tensor, mask_pred: Tensor) -> PixelData:
        """``sem_seg (1, H, W)``: the class, of things and stuff, for which all queries together speak most.

        Args:
            mask_cls: ``(Q, C + 1)`` logits.
            mask_pred: ``(Q, H, W)`` logits.
        """
        return PixelData(sem_seg=self._semantic(mask_cls[None], mask_pred[None]))

    def instance_postprocess(self, mask_cls: Tensor, mask_pred: Tensor) -> InstanceData:
        """``bboxes``, ``labels``, ``scores`` and ``masks (n, H, W)`` of the things among the ``max_per_image`` best
        pairs of query and class. A score is that of the class times the mean certainty of the mask.

        Args:
            mask_cls: ``(Q, C + 1)`` logits.
            mask_pred: ``(Q, H, W)`` logits.
        """
        scores = mask_cls.softmax(-1)[:, :-1].flatten()
        scores, index = scores.topk(min(self._option('max_per_image', 100), len(scores)), sorted=False)
        labels, queries = index % self.num_classes, index // self.num_classes
        thing = labels < self.num_things_classes
        scores, labels, queries = scores[thing], labels[thing], queries[thing]
        inside = mask_pred > 0
        certainty = (mask_pred.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
        return InstanceData(
            bboxes=mask2bbox(inside)[queries],
            labels=labels,
            scores=scores * certainty[queries],
            masks=inside[queries],
        )

    @torch.no_grad()
    def predict(  # type: ignore[override]
        self,
        mask_cls_results: Tensor,
        mask_pred_results: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = False,
        **kwargs: Any,
    ) -> list[dict]:
        """``pan_results``, ``sem_results`` and ``ins_results`` of each image, those that are asked for.

        Args:
            mask_cls_results: ``(B, Q, C + 1)`` logits.
            mask_pred_results: ``(B, Q, H, W)`` logits, as large as the padded batch.
            rescale: Whether results have the size of the original image.
        """
        if is_fixed_size():
            return [self._fixed_results(mask_cls_results, mask_pred_results, batch_data_samples[0].batch_input_shape)]
        methods = dict(
            pan_results=self.panoptic_postprocess,
            sem_results=self.semantic_postprocess,
            ins_results=self.instance_postprocess,
        )
        results = []
        for scores, masks, sample in zip(mask_cls_results, mask_pred_results, batch_data_samples):
            height, width = sample.metainfo['img_shape'][:2]
            masks = masks[:, :height, :width]
            if rescale:
                size = tuple(sample.metainfo['ori_shape'][:2])
                masks = F.interpolate(masks[:, None], size, mode='bilinear', align_corners=False)[:, 0]
            results.append({name: methods[name](scores, masks) for name in self.wanted()})
        return results

    def wanted(self) -> list[str]:
        """Names of the results that ``test_cfg`` asks for."""
        options = dict(panoptic_on=True, semantic_on=False, instance_on=False)
        names = ('pan_results', 'sem_results', 'ins_results')
        return [name for name, (option, default) in zip(names, options.items()) if self._option(option, default)]

    def _fixed_results(self, mask_cls: Tensor, mask_pred: Tensor, size: Sequence[int]) -> dict:
        """The results of all images, whose maps are ``(B, H, W)`` of ``size``; masks ``(B, M, h, w)`` are logits.

        Args:
            mask_cls: ``(B, Q, C + 1)`` logits.
            mask_pred: ``(B, Q, h, w)`` logits.
        """
        logits = F.interpolate(mask_pred, tuple(size), mode='bilinear', align_corners=False)
        methods = dict(pan_results=self._fixed_panoptic, sem_results=self._semantic)
        results: dict[str, Any] = {
            name: PixelData(sem_seg=methods[name](mask_cls, logits)) for name in self.wanted() if name in methods
        }
        if 'ins_results' in self.wanted():
            results['ins_results'] = self._fixed_instances(mask_cls, logits, mask_pred)
        return results

    def _fixed_panoptic(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """:meth:`panoptic_postprocess` of all images, ``(B, H, W)``."""
        scores, labels = mask_cls.softmax(-1).max(-1)  # (B, Q)
        keep = (labels != self.num_classes) & (scores > self._option('object_mask_thr', 0.8))
        masks = mask_pred.sigmoid()
        owner = (torch.where(keep, scores, -1.0)[..., None, None] * masks).argmax(1)  # (B, H, W)
        flat = owner.flatten(1)
        won = torch.zeros_like(scores).scatter_add(1, flat, torch.ones_like(flat, dtype=scores.dtype))
        claims = masks >= 0.5
        claimed = claims.flatten(2).sum(2)
        stays = keep & (won > 0) & (claimed > 0) & (won / claimed.clamp(min=1) >= self._option('iou_thr', 0.8))
        thing = stays & (labels < self.num_things_classes)
        ids = torch.where(stays, labels, self.num_classes) + thing * thing.cumsum(1) * INSTANCE_OFFSET
        panoptic = ids.gather(1, flat).view(owner.shape)
        if self._option('filter_low_score', False):
            panoptic = torch.where(claims.gather(1, owner[:, None])[:, 0], panoptic, self.num_classes)
        return panoptic.int()

    def _semantic(self, mask_cls: Tensor, mask_pred: Tensor) -> Tensor:
        """:meth:`semantic_postprocess` of all images, ``(B, H, W)``."""
        votes = torch.einsum('bqc,bqhw->bchw', mask_cls.softmax(-1)[..., :-1], mask_pred.sigmoid())
        return votes.argmax(1)

    def _fixed_instances(self, mask_cls: Tensor, mask_pred: Tensor, small: Tensor) -> InstanceData:
        """:meth:`instance_postprocess` of all images, best first, with masks made of ``small (B, Q, h, w)``."""
        scores = mask_cls.softmax(-1)[..., :-1].flatten(1)
        scores, index = scores.topk(min(self._option('max_per_image', 100), scores.shape[1]))  # (B, M)
        labels, queries = index % self.num_classes, index // self.num_classes
        inside = mask_pred > 0
        certainty = (mask_pred.sigmoid() * inside).flatten(2).sum(2) / (inside.flatten(2).sum(2) + 1e-6)
        scores = torch.where(labels < self.num_things_classes, scores * certainty.gather(1, queries), -1.0)
        scores, order = scores.sort(1, descending=True)
        labels, queries = labels.gather(1, order), queries.gather(1, order)
        boxes, masks = rows_at(mask2bbox(inside), queries), rows_at(small, queries)
        fields = dict(bboxes=boxes, scores=scores, labels=labels, masks=masks)
        return fixed_instances(fields, (scores >= 0).sum(1))
