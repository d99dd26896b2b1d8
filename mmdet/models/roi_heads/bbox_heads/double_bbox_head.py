from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, MultiConfig, OptConfigType, OptMultiConfig

from .bbox_head import BBoxHead


class BasicResBlock(BaseModule):
    """A 3x3 and a 1x1 convolution beside a 1x1 shortcut, to change the number of channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='BN'),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        options = dict(bias=False, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.conv1 = ConvModule(in_channels, in_channels, 3, padding=1, **options)
        self.conv2 = ConvModule(in_channels, out_channels, 1, act_cfg=None, **options)
        self.conv_identity = ConvModule(in_channels, out_channels, 1, act_cfg=None, **options)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(K, C, h, w)`` -> ``(K, out, h, w)``."""
        return self.relu(self.conv_identity(x) + self.conv2(self.conv1(x)))


@MODELS.register_module()
class DoubleConvFCBBoxHead(BBoxHead):
    """Classes by fully connected layers, boxes by convolutions (Double-Head R-CNN, arXiv:1904.06493, Sec. 4)."""

    def __init__(
        self,
        num_convs: int = 0,
        num_fcs: int = 0,
        conv_out_channels: int = 1024,
        fc_out_channels: int = 1024,
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='BN'),
        init_cfg: MultiConfig = dict(
            type='Normal',
            override=[
                dict(type='Normal', name='fc_cls', std=0.01),
                dict(type='Normal', name='fc_reg', std=0.001),
                dict(type='Xavier', name='fc_branch', distribution='uniform'),
            ],
        ),
        **kwargs,
    ) -> None:
        kwargs.setdefault('with_avg_pool', True)
        super().__init__(init_cfg=init_cfg, **kwargs)
        if not self.with_avg_pool or num_convs <= 0 or num_fcs <= 0:
            raise UserValueError('DoubleConvFCBBoxHead needs with_avg_pool, num_convs > 0 and num_fcs > 0')
        self.num_convs, self.num_fcs = num_convs, num_fcs
        self.conv_out_channels, self.fc_out_channels = conv_out_channels, fc_out_channels
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.res_block = BasicResBlock(self.in_channels, conv_out_channels)
        self.conv_branch = ModuleList(
            Bottleneck(conv_out_channels, conv_out_channels // 4, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
            for _ in range(num_convs)
        )
        self.fc_branch = ModuleList(
            nn.Linear(fc_out_channels if i else self.in_channels * self.roi_feat_area, fc_out_channels)
            for i in range(num_fcs)
        )
        self.fc_reg = nn.Linear(conv_out_channels, self.reg_channels)
        self.fc_cls = nn.Linear(fc_out_channels, self.cls_channels)
        self.relu = nn.ReLU()

    def forward(self, x_cls: Tensor, x_reg: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # two inputs
        x_reg = self.res_block(x_reg)
        for conv in self.conv_branch:
            x_reg = conv(x_reg)
        x_cls = x_cls.flatten(1)
        for fc in self.fc_branch:
            x_cls = self.relu(fc(x_cls))
        return self.fc_cls(x_cls), self.fc_reg(x_reg.mean(dim=(-1, -2)))
