from __future__ import annotations

from abc import ABCMeta, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor

from mmdet.models.core import Assignment, PaddedGT, Priors, RoISamples, pad_proposals, unpack_gt_instances
from mmdet.models.task_modules.assigners import assign_each
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList, OptConfigType, OptMultiConfig


class BaseRoIHead(BaseModule, metaclass=ABCMeta):
    """Base of heads that look at regions.

    Args:
        shared_head: Layers between pooling and the heads, as in the C4 variants.
        train_cfg, test_cfg: The ``rcnn`` part of the detector's.
    """

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
        return getattr(self, 'bbox_head', None) is not None

    @property
    def with_mask(self) -> bool:
        return getattr(self, 'mask_head', None) is not None

    @property
    def with_shared_head(self) -> bool:
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

    def assign(
        self, assigner, proposals: InstanceList | tuple[Tensor, Tensor], batch_data_samples: SampleList
    ) -> tuple[Priors, Assignment, PaddedGT]:
        """Proposals, what each is trained for, and the ground truths of a batch.

        Args:
            proposals: ``bboxes`` of each image, or boxes ``(B, N, 4)`` and a mask ``(B, N)``.
        """
        gt_instances, ignored, _ = unpack_gt_instances(batch_data_samples)
        gt = PaddedGT.from_instances(gt_instances, ignored)
        boxes, valid = proposals if isinstance(proposals, tuple) else pad_proposals(proposals)
        priors = Priors(boxes, valid, [boxes.shape[1]])
        return priors, assign_each(assigner, priors, gt_instances, ignored, gt), gt

    def sample(
        self,
        assigner,
        sampler,
        proposals: InstanceList | tuple[Tensor, Tensor],
        batch_data_samples: SampleList,
        feats: tuple[Tensor, ...],
    ) -> RoISamples:
        """Assign, then draw what to train on; see :meth:`assign`."""
        gt_instances = [sample.gt_instances for sample in batch_data_samples]
        assigned = self.assign(assigner, proposals, batch_data_samples)
        return sampler.sample_batch(*assigned, gt_instances, feats=feats)

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image; in pixels of the original image if ``rescale``."""
        metas = [sample.metainfo for sample in batch_data_samples]
        # Masks are pasted after the boxes, which stay in pixels of the network input until then.
        results = self.predict_bbox(
            x, metas, rpn_results_list, rcnn_test_cfg=self.test_cfg, rescale=rescale and not self.with_mask
        )
        return self.predict_mask(x, metas, results, rescale=rescale) if self.with_mask else results
