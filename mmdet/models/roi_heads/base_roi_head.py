from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.models.core import (
    Assignment,
    HostRegions,
    PaddedGT,
    Proposals,
    RoISamples,
    empty_instances,
    fixed_instances,
    of_label,
    unpack_gt_instances,
    with_image,
)
from mmdet.models.task_modules.joints import assign_images, sample_regions
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import PolygonMasks
from mmdet.utils import InstanceList, OptConfigType, OptMultiConfig

from .joints import knows_lists


class BaseRoIHead(BaseModule, metaclass=ABCMeta):
    """Base of heads that look at regions.

    Args:
        shared_head: Layers between pooling and the heads, as in the C4 variants.
        train_cfg, test_cfg: The ``rcnn`` part of the detector's.
    """

    leave_out_empty_slots: bool | None = None
    """Decides for :meth:`packs_slots` if it is not None."""

    def __init__(
        self,
        bbox_roi_extractor: OptMultiConfig = None,
        bbox_head: OptMultiConfig = None,
        mask_roi_extractor: OptMultiConfig = None,
        mask_head: OptMultiConfig = None,
        shared_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        if shared_head is not None:
            self.shared_head = MODELS.build(shared_head)
        if bbox_head is not None:
            self.init_bbox_head(bbox_roi_extractor, bbox_head)
        if mask_head is not None:
            self.init_mask_head(mask_roi_extractor, mask_head)
        self.init_assigner_sampler()

    @property
    def with_bbox(self) -> bool:
        """Whether there is a head for boxes."""
        return getattr(self, 'bbox_head', None) is not None

    @property
    def with_mask(self) -> bool:
        """Whether there is a head for masks."""
        return getattr(self, 'mask_head', None) is not None

    @property
    def with_shared_head(self) -> bool:
        """Whether layers stand between the regions and all heads."""
        return getattr(self, 'shared_head', None) is not None

    @abstractmethod
    def init_bbox_head(self, *args, **kwargs) -> None:
        """Make the box head and its extractor."""

    @abstractmethod
    def init_mask_head(self, *args, **kwargs) -> None:
        """Make the mask head and its extractor."""

    @abstractmethod
    def init_assigner_sampler(self, *args, **kwargs) -> None:
        """Make what decides on positives and negatives."""

    @abstractmethod
    def loss(self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Losses of feature maps and proposals."""

    def ground_truths(self, batch_data_samples: SampleList) -> PaddedGT:
        """What the samples are labelled with, padded."""
        gt_instances, ignored, _ = unpack_gt_instances(batch_data_samples)
        return PaddedGT.from_instances(gt_instances, ignored)

    def packs_slots(self, feats: Sequence[Tensor]) -> bool:
        """Whether empty slots are left out of what heads compute on.

        On the CPU, where counting the used ones costs nothing and computing on empty ones would. On other devices
        only for batch norms, whose statistics empty slots would change, and for research code, which knows lists
        without empty slots.
        """
        if self.leave_out_empty_slots is not None:
            return self.leave_out_empty_slots
        return feats[0].is_cpu or self._mixes_regions() or knows_lists(self)

    def _mixes_regions(self) -> bool:
        return any(isinstance(module, _BatchNorm) and module.training for module in self.modules())

    def assign(self, assigner, proposals: Proposals, gt: PaddedGT) -> Assignment:
        """What each proposal is trained for."""
        if hasattr(assigner.assign, 'by_batch'):
            return assigner.assign_batch(proposals, gt)
        return assign_images(assigner, proposals, gt)

    def sample(
        self, assigner, sampler, proposals: Proposals | InstanceList, gt: PaddedGT, feats: tuple[Tensor, ...]
    ) -> RoISamples:
        """Assign proposals to ground truths, then draw what to train on."""
        proposals = Proposals.of(proposals)
        assignment = self.assign(assigner, proposals, gt)
        if getattr(sampler, 'by_image', True):
            samples = sample_regions(sampler, proposals, assignment, gt, feats)
        else:
            samples = sampler.sample_batch(proposals, assignment, gt, feats, self.packs_slots(feats))
        if self.with_mask and feats[0].is_cuda and any(isinstance(x.get('masks'), PolygonMasks) for x in gt.instances):
            # They are drawn by the host, which so waits for the sampling alone, not for the heads behind it.
            chosen = samples.positives
            chosen.host = HostRegions(chosen.boxes, chosen.gt_inds, chosen.pos)
        return samples

    def _context(self, x: tuple[Tensor, ...], batch_data_samples: SampleList | None = None) -> tuple[dict, dict]:
        """Losses, if ground truths are given, and keywords for the branches, of what all branches share."""
        return {}, {}

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image; in pixels of the original image if ``rescale``."""
        metas = [sample.metainfo for sample in batch_data_samples]
        _, context = self._context(x)
        # Masks are pasted after the boxes, which stay in pixels of the network input until then.
        results = self.predict_bbox(
            x, metas, rpn_results_list, rcnn_test_cfg=self.test_cfg, rescale=rescale and not self.with_mask, **context
        )
        if not self.with_mask:
            return results
        predict_mask: Callable[..., InstanceList] = self.predict_mask  # which takes the context of its class
        return predict_mask(x, *context.values(), metas, results, rescale=rescale)

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigDict | None,
        rescale: bool = False,
        **context,
    ) -> InstanceList:
        """Boxes of each image."""
        head = self._last(self.bbox_head)
        if head.predicts_batch(rpn_results_list, rcnn_test_cfg):
            batch = Proposals.of(rpn_results_list)
            rows = batch.boxes.shape[:2]
            counts = [rows[0] * rows[1]] if is_fixed_size() else [rows[1]] * rows[0]
            outs = self._refine_roi(x, with_image(batch.boxes).flatten(0, 1), batch_img_metas, counts, **context)
            return head.predict_batch(*outs, batch.valid, batch_img_metas, rcnn_test_cfg, rescale)
        proposals = [results.bboxes for results in rpn_results_list]
        rois = bbox2roi(proposals)
        if len(rois) == 0:
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type='bbox',
                box_type=head.predict_box_type,
                num_classes=head.num_classes,
                score_per_cls=rcnn_test_cfg is None,
            )
        rois, cls_scores, bbox_preds = self._refine_roi(
            x, rois, batch_img_metas, [len(boxes) for boxes in proposals], **context
        )
        return head.predict_by_feat(
            rois=rois,
            cls_scores=cls_scores,
            bbox_preds=bbox_preds,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: list[dict],
        num_proposals_per_img: Sequence[int],
        **context,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """RoIs, class scores and box predictions of each image."""
        raise NotImplementedError(f'{type(self).__name__} has neither _refine_roi nor predict_bbox')

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        results_list: InstanceList,
        rescale: bool = False,
        **context,
    ) -> InstanceList:
        """Put ``masks`` into the detections of each image."""
        if is_fixed_size():
            return [self._fixed_masks(x, results_list[0], **context)]
        boxes = [results.bboxes for results in results_list]
        rois = bbox2roi(boxes)
        if len(rois) == 0:
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type='mask',
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
        mask_preds, activated = self._predicted_masks(x, rois, results_list, **context)
        return self._last(self.mask_head).predict_by_feat(
            mask_preds=mask_preds.split([len(b) for b in boxes]),
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
            activate_map=activated,
        )

    def _fixed_masks(self, x: tuple[Tensor, ...], results: InstanceData, **context) -> InstanceData:
        """Put ``masks (B, M, h, w)``, probabilities inside of each box, into the one result of all images."""
        rows = results.bboxes.shape[:2]
        rois, labels = with_image(results.bboxes).flatten(0, 1), results.labels.clamp(min=0).flatten()
        flat = fixed_instances(dict(bboxes=rois[:, 1:], scores=results.scores.flatten(), labels=labels))
        preds, activated = self._predicted_masks(x, rois, [flat], **context)
        preds = preds[:, 0] if preds.shape[1] == 1 else of_label(preds, labels)
        results.masks = (preds if activated else preds.sigmoid()).float().unflatten(0, rows)
        results.scores = flat.scores.unflatten(0, rows)  # which a head may weigh by the quality of the masks
        return results

    def _predicted_masks(
        self, x: tuple[Tensor, ...], rois: Tensor, results_list: InstanceList, **context
    ) -> tuple[Tensor, bool]:
        """Masks of RoIs, which are the boxes in ``results_list``, and whether they are probabilities, not logits."""
        raise NotImplementedError(f'{type(self).__name__} has neither _predicted_masks nor predict_mask')

    @staticmethod
    def _last(heads: nn.Module) -> Any:
        """The head that makes the results: the only one, or that of the last stage."""
        return heads[-1] if isinstance(heads, nn.ModuleList) else heads
