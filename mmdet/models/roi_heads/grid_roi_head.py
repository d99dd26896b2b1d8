from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.config import ConfigDict
from torch import Tensor

from mmdet.models.core import RoISamples, by_batch, constant, draw, image_shapes, with_image
from mmdet.models.task_modules.joints import as_samples
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class GridRoIHead(StandardRoIHead):
    """Classes by a box head, boxes by a grid of points (Grid R-CNN, arXiv:1811.12030).

    Args:
        grid_roi_extractor: Pools for ``grid_head``; None for the one of the box head.
    """

    def __init__(self, grid_roi_extractor: ConfigType, grid_head: ConfigType, **kwargs) -> None:
        super().__init__(**kwargs)
        self.grid_roi_extractor = MODELS.build(grid_roi_extractor) if grid_roi_extractor else self.bbox_roi_extractor
        self.grid_head = MODELS.build(grid_head)

    def _grid_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        """Heatmaps of RoIs ``(K, 5)``."""
        feats = self.grid_roi_extractor(x[: self.grid_roi_extractor.num_inputs], rois)
        return self.grid_head(self.shared_head(feats) if self.with_shared_head else feats)

    @by_batch
    def _random_jitter(
        self, sampling_results: RoISamples | Sequence, batch_img_metas: list[dict], amplitude: float = 0.15
    ) -> RoISamples:
        """Samples whose positives are moved and resized by up to ``amplitude`` of their sides, within the picture."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        low, high = samples.boxes.chunk(2, -1)
        size = (high - low).abs()
        shift, growth = torch.empty_like(samples.boxes).uniform_(-amplitude, amplitude).chunk(2, -1)
        center, size = (low + high) / 2 + size * shift, size * (1 + growth)
        moved = torch.cat([center - size / 2, center + size / 2], -1)
        limits = constant(image_shapes(batch_img_metas), moved).flip(1).repeat(1, 2)[:, None] - 1
        boxes = torch.where(samples.pos[..., None], moved.clamp(min=0).minimum(limits), samples.boxes)
        return replace(samples, boxes=boxes, results=None)

    def forward(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList | None = None
    ) -> tuple:
        """The bare outputs: class scores, boxes if there are any, and heatmaps and masks of the first 100 regions."""
        rois = bbox2roi([proposals.bboxes for proposals in rpn_results_list])
        outs = self._bbox_forward(x, rois)
        results = tuple(outs[name] for name in ('cls_score', 'bbox_pred') if outs[name] is not None)
        results += (self._grid_forward(x, rois[:100]),)
        return (*results, self._mask_forward(x, rois[:100])['mask_preds']) if self.with_mask else results

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList, **kwargs
    ) -> dict:
        gt = self.ground_truths(batch_data_samples)
        samples = self.sample(self.bbox_assigner, self.bbox_sampler, rpn_results_list, gt, x)
        outs = self.bbox_loss(x, samples, [sample.metainfo for sample in batch_data_samples])
        losses = dict(outs['loss_bbox'])
        if self.with_mask:
            losses.update(self.mask_loss(x, samples, outs['bbox_feats'], gt.instances)['loss_mask'])
        return losses

    @by_batch
    def bbox_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        batch_img_metas: list[dict] | None = None,
    ) -> dict:
        """As of any second stage, with ``loss_grid`` of at most ``max_num_grid`` jittered positives of all images."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        outs = super().bbox_loss(x, samples)
        own = not hasattr(self._random_jitter, 'by_batch')  # which changes the results of images in place
        samples = self._random_jitter(list(samples) if own else samples, batch_img_metas or [])
        samples = samples if isinstance(samples, RoISamples) else as_samples(samples)
        used, rois = samples.positives.rows('pos')[0], samples.positives.rois
        index = draw(used[None], self.train_cfg.get('max_num_grid', 192))[0][0]
        grid_pred = self._grid_forward(x, rois[index])
        outs['loss_bbox'].update(self.grid_head.loss(grid_pred, index, samples, self.train_cfg))
        return outs

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigDict | None,
        rescale: bool = False,
        **context,
    ) -> InstanceList:
        # The grid is laid over the regions that are kept, in pixels of the network input.
        results = super().predict_bbox(x, batch_img_metas, rpn_results_list, rcnn_test_cfg, **context)
        if is_fixed_size():
            rois = with_image(results[0].bboxes)
            boxes = self.grid_head.boxes_of(
                self._grid_forward(x, rois.flatten(0, 1))['fused'], rois[..., 1:].flatten(0, 1)
            )
            boxes = boxes.unflatten(0, rois.shape[:2])
            results[0].bboxes = torch.where(results[0].labels[..., None] >= 0, boxes, 0.0)
            return results
        rois = bbox2roi([found.bboxes for found in results])
        if len(rois) == 0:
            return results
        return self.grid_head.predict_by_feat(self._grid_forward(x, rois), results, batch_img_metas, rescale)
