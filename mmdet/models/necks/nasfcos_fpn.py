"""The searched pyramid of NAS-FCOS (arXiv:1906.04423)."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import caffe2_xavier_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.models.layers.merge_cells import ConcatCell
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS

# 'cij' merges the maps i and j into the next one; 0 to 2 are the adapted inputs. Whether the second map is convolved.
CELLS = {'c22_1': True, 'c22_2': True, 'c32': False, 'c02': False, 'c42': True, 'c36': True, 'c61': True}


@MODELS.register_module()
class NASFCOS_FPN(Pyramid):
    """Seven merging cells on three inputs; the last three maps are the outputs P3 to P5, each with map 5 added."""

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 1,
        end_level: int = -1,
        add_extra_convs: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError(f'NASFCOS_FPN sets its own initial weights, init_cfg={init_cfg!r} cannot be given')
        super().__init__(init_cfg)
        self._describe(in_channels, out_channels, num_outs)
        self.norm_cfg = resolve_layer(norm_cfg)
        self.conv_cfg = resolve_layer(conv_cfg)
        self.add_extra_convs = add_extra_convs
        used, num_extra = self._use_levels(start_level, end_level)
        self.adapt_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, bias=False, norm_cfg=dict(type='BN'), inplace=False)
            for channels in used
        )
        self.fpn = nn.ModuleDict(
            {
                name: ConcatCell(
                    out_channels,
                    out_channels,
                    out_conv_cfg=dict(kernel_size=1, padding=0, bias=False, groups=out_channels),
                    out_norm_cfg=dict(type='BN'),
                    out_conv_order=('norm', 'act', 'conv'),
                    with_input1_conv=True,
                    with_input2_conv=convolved,
                    input_conv_cfg=self.conv_cfg,
                    input_norm_cfg=self.norm_cfg,
                    upsample_mode='nearest',
                )
                for name, convolved in CELLS.items()
            }
        )
        self.extra_downsamples = nn.ModuleList(
            ConvModule(
                out_channels,
                out_channels,
                3,
                stride=2,
                padding=1,
                act_cfg=None if i == 0 else dict(type='ReLU', inplace=False),
                order=('act', 'norm', 'conv'),
            )
            for i in range(num_extra)
        )

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.fpn.values():
            if hasattr(module, 'out_conv'):
                caffe2_xavier_init(module.out_conv.conv)
        for modules in (self.adapt_convs.modules(), self.extra_downsamples.modules()):
            for module in modules:
                if isinstance(module, nn.Conv2d):
                    caffe2_xavier_init(module)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, self.num_ins)
        used = inputs[self.start_level : self.backbone_end_level]
        if len(used) != 3:
            raise UserValueError(f'NASFCOS_FPN merges three inputs, got {len(used)} (in_channels={self.in_channels})')
        maps = [conv(x) for conv, x in zip(self.adapt_convs, used, strict=True)]
        for name, cell in self.fpn.items():
            maps.append(cell(maps[int(name[1])], maps[int(name[2])]))
        outs = []
        for x, source in zip(reversed(maps[-3:]), used, strict=True):
            x = x + F.interpolate(maps[5], x.shape[2:], mode='bilinear', align_corners=False)
            outs.append(F.interpolate(x, source.shape[2:], mode='bilinear', align_corners=False))
        for downsample in self.extra_downsamples:
            outs.append(downsample(outs[-1]))
        return tuple(outs)
