from __future__ import annotations

from torch import Tensor, nn

from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig

from .guided_anchor_head import FeatureAdaption, GuidedAnchorHead


@MODELS.register_module()
class GARetinaHead(GuidedAnchorHead):
    """RetinaNet's towers with guided anchors: the class tower tells where, the box tower of what shape."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg=None,
        norm_cfg=None,
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        if init_cfg is None:
            rare = dict(type='Normal', std=0.01, bias_prob=0.01)
            override = [dict(rare, name='conv_loc'), dict(rare, name='retina_cls')]
            init_cfg = dict(type='Normal', layer='Conv2d', std=0.01, override=override)
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._tower(), self._tower()
        channels = self.feat_channels
        self.conv_loc = nn.Conv2d(channels, 1, 1)
        self.conv_shape = nn.Conv2d(channels, self.num_base_priors * 2, 1)
        self.feature_adaption_cls = FeatureAdaption(channels, channels, deform_groups=self.deform_groups)
        self.feature_adaption_reg = FeatureAdaption(channels, channels, deform_groups=self.deform_groups)
        self.retina_cls = nn.Conv2d(channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(channels, self.num_base_priors * self.reg_dim, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        shape_pred = self.conv_shape(reg_feat)
        cls_score = self.retina_cls(self.feature_adaption_cls(cls_feat, shape_pred))
        bbox_pred = self.retina_reg(self.feature_adaption_reg(reg_feat, shape_pred))
        return cls_score, bbox_pred, shape_pred, self.conv_loc(cls_feat)
