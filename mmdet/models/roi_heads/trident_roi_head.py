from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import TestCfg, fixed_instances, fixed_suppressed, image_detections
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList

from .standard_roi_head import StandardRoIHead


@MODELS.register_module()
class TridentRoIHead(StandardRoIHead):
    """A second stage on the branches of TridentNet (arXiv:1901.01892), which lie one after the other along the batch.

    Args:
        test_branch_idx: The branch that predicts; all, whose detections are joined, if -1.
    """

    def __init__(self, num_branch: int, test_branch_idx: int, **kwargs) -> None:
        self.num_branch, self.test_branch_idx = num_branch, test_branch_idx
        super().__init__(**kwargs)

    def merge_trident_bboxes(self, trident_results: Sequence[InstanceData]) -> InstanceData:
        """The detections of one image by several branches, after suppression among them."""
        cfg = TestCfg.read(dict(nms=self.test_cfg['nms'], max_per_img=self.test_cfg['max_per_img']))
        names = ('bboxes', 'scores', 'labels')
        fields = {name: torch.cat([results[name] for results in trident_results]) for name in names}
        return image_detections(fields, cfg, None)

    def _merge_fixed(self, results: InstanceData) -> InstanceData:
        """:meth:`merge_trident_bboxes` of all images at once."""
        branches = self.num_branch if self.training or self.test_branch_idx == -1 else 1
        fields = {
            name: results[name].unflatten(0, (branches, -1)).transpose(0, 1).flatten(1, 2)
            for name in ('bboxes', 'scores', 'labels')
        }
        options = fields, fields['scores'] > 0, self.test_cfg['nms'], 'labels', self.test_cfg['max_per_img']
        return fixed_instances(*fixed_suppressed(*options))

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image; ``batch_data_samples`` has every image once for each branch, as ``x`` has."""
        found = super().predict(x, rpn_results_list, batch_data_samples, rescale)
        if is_fixed_size():
            return [self._merge_fixed(found[0])]
        images = len(found) // (self.num_branch if self.training or self.test_branch_idx == -1 else 1)
        return [self.merge_trident_bboxes(found[i::images]) for i in range(images)]
