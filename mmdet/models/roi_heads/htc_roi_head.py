"""A cascade whose masks follow the boxes of their own stage and know the masks before (HTC, arXiv:1901.07518)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList, OptConfigType

from .cascade_roi_head import CascadeRoIHead


@MODELS.register_module()
class HybridTaskCascadeRoIHead(CascadeRoIHead):
    """Cascade with interleaved execution, mask information flow and semantic features (Sec. 3.1 and 3.2).

    Args:
        semantic_roi_extractor, semantic_head: Pool from and make semantic features; both or none.
        semantic_fusion: Branches ('bbox', 'mask') whose features the semantic ones are added to.
        interleaved: Whether masks are trained on the boxes that their own stage has refined.
        mask_info_flow: Whether a mask head gets the features of those before.
    """

    def __init__(
        self,
        num_stages: int,
        stage_loss_weights: list[float] | tuple[float, ...],
        semantic_roi_extractor: OptConfigType = None,
        semantic_head: OptConfigType = None,
        semantic_fusion: Sequence[str] = ('bbox', 'mask'),
        interleaved: bool = True,
        mask_info_flow: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(num_stages, stage_loss_weights, **kwargs)
        if (semantic_head is None) != (semantic_roi_extractor is None):
            raise UserValueError('semantic_head and semantic_roi_extractor belong together; only one is given')
        if semantic_head is not None:
            self.semantic_roi_extractor = MODELS.build(semantic_roi_extractor)
            self.semantic_head = MODELS.build(semantic_head)
        self.semantic_fusion = semantic_fusion
        self.interleaved, self.mask_info_flow = interleaved, mask_info_flow

    @property
    def with_semantic(self) -> bool:
        """Whether there is a semantic branch."""
        return getattr(self, 'semantic_head', None) is not None

    def _context(self, x: tuple[Tensor, ...], batch_data_samples: SampleList | None = None) -> tuple[dict, dict]:
        if not self.with_semantic:
            return {}, dict(semantic_feat=None)
        preds, feat = self.semantic_head(x)
        losses = {}
        if batch_data_samples is not None:
            labels = torch.stack([sample.gt_sem_seg.sem_seg for sample in batch_data_samples])
            losses['loss_semantic_seg'] = self.semantic_head.loss(preds, labels)
        return losses, dict(semantic_feat=feat)

    def _fuse(self, branch: str, feats: Tensor, rois: Tensor, semantic_feat: Tensor | None) -> Tensor:
        """Add the semantic features of the same regions, pooled to the same size."""
        if semantic_feat is None or branch not in self.semantic_fusion:
            return feats
        semantic = self.semantic_roi_extractor([semantic_feat], rois)
        if semantic.shape[-2:] != feats.shape[-2:]:
            semantic = F.adaptive_avg_pool2d(semantic, (feats.shape[-2], feats.shape[-1]))
        return feats + semantic

    def _bbox_forward(
        self, stage: int, x: tuple[Tensor, ...], rois: Tensor, semantic_feat: Tensor | None = None
    ) -> dict:
        extractor = self.bbox_roi_extractor[stage]
        feats = self._fuse('bbox', extractor(x[: extractor.num_inputs], rois), rois, semantic_feat)
        cls_score, bbox_pred = self.bbox_head[stage](feats)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=feats)

    def _mask_forward(
        self, stage: int, x: tuple[Tensor, ...], rois: Tensor, semantic_feat: Tensor | None = None
    ) -> dict:
        extractor = self.mask_roi_extractor[stage]
        feats = self._fuse('mask', extractor(x[: extractor.num_inputs], rois), rois, semantic_feat)
        before = None
        for head in self.mask_head[:stage] if self.mask_info_flow else ():
            before = head(feats, before, return_logits=False)
        return dict(mask_preds=self.mask_head[stage](feats, before, return_feat=False))

    def _masks_of_stages(self, x: tuple[Tensor, ...], rois: Tensor, **context) -> list[Tensor]:
        """Of the last stage alone, which the published results are of; the flow carries the others into it."""
        return [self._mask_forward(self.num_stages - 1, x, rois, **context)['mask_preds']]

    def predict_mask(  # type: ignore[override]  # 3.x has the semantic features second
        self,
        x: tuple[Tensor, ...],
        semantic_heat: Tensor | None,
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
    ) -> InstanceList:
        """``semantic_heat``: the semantic features, as MMDetection calls them here."""
        return super().predict_mask(x, batch_img_metas, results_list, rescale, semantic_feat=semantic_heat)
