from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from mmdet.models.core import TestCfg, detections, image_detections
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptMultiConfig

from .guided_anchor_head import GuidedAnchorHead
from .rpn_head import ProposesRegions


@MODELS.register_module()
class GARPNHead(ProposesRegions, GuidedAnchorHead):
    """Region proposals from guided anchors.

    ``nms_post`` of the test settings limits the proposals of a level; with ``nms_across_levels`` those that are left
    suppress each other once more.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1,
        init_cfg: OptMultiConfig = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_loc', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self._check_classes(num_classes)
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        self.rpn_conv = nn.Conv2d(self.in_channels, self.feat_channels, 3, padding=1)
        super()._init_layers()

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return super().forward_single(F.relu(self.rpn_conv(x)))

    def loss_by_feat(self, *args, **kwargs) -> dict:
        losses = super().loss_by_feat(*args, **kwargs)
        names = dict(cls='rpn_cls', bbox='rpn_bbox', shape='anchor_shape', loc='anchor_loc')
        return {f'loss_{new}': losses[f'loss_{old}'] for old, new in names.items()}

    def _results(
        self, fields: dict, test_cfg: TestCfg, metas: list[dict], rescale: bool, with_nms: bool
    ) -> InstanceList:
        limit, most = test_cfg.nms_post, test_cfg.max_per_img
        limited = limit > 0 and (most is None or limit < most)  # else what is kept of all levels is the narrower limit
        if not with_nms or not (limited or test_cfg.nms_across_levels):
            return super()._results(fields, test_cfg, metas, rescale, with_nms)
        fields, apart = dict(fields, levels=fields['level_ids']), replace(test_cfg, max_per_img=None)
        results = []
        for found in detections(fields, apart, metas, rescale, with_nms, self.nms_groups):
            levels = found.pop('levels')
            if limit > 0 and len(found):
                rank = F.one_hot(levels).cumsum(0).gather(1, levels[:, None])[:, 0]  # from the best of its level
                found = found[rank <= limit]
            if test_cfg.nms_across_levels:
                found = image_detections(dict(found.items()), test_cfg, None, groups='image')  # which none has
            results.append(found[:most])
        return results
