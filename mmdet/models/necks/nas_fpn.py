"""NAS-FPN (arXiv:1904.07392)."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.models.layers.merge_cells import GlobalPoolingCell, SumCell
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS

# name of the cell, first and second input, output level; 'p4a' is the P4 between the first two steps (Fig. 6)
STEPS = (
    ('gp_64_4', 'p6', 'p4', 'p4a'),
    ('sum_44_4', 'p4a', 'p4', 'p4a'),
    ('sum_43_3', 'p4a', 'p3', 'p3'),
    ('sum_34_4', 'p3', 'p4a', 'p4'),
    ('gp_43_5', 'p4', 'p3', 'p5a'),
    ('sum_55_5', 'p5', 'p5a', 'p5'),
    ('gp_54_7', 'p5', 'p4a', 'p7a'),
    ('sum_77_7', 'p7', 'p7a', 'p7'),
    ('gp_75_6', 'p7', 'p5', 'p6'),
)


@MODELS.register_module()
class NASFPN(Pyramid):
    """The searched seven-cell pyramid on P3 to P7, ``stack_times`` times.

    Args:
        start_level, end_level: First and last input that is used; -1 stands for the last.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = dict(type='Caffe2Xavier', layer='Conv2d'),
    ) -> None:
        super().__init__(init_cfg)
        self._describe(in_channels, out_channels, num_outs)
        self.stack_times = stack_times
        self.norm_cfg = resolve_layer(norm_cfg)
        used, num_extra = self._use_levels(start_level, end_level)
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, norm_cfg=self.norm_cfg, act_cfg=None) for channels in used
        )
        self.extra_downsamples = nn.ModuleList(
            nn.Sequential(
                ConvModule(out_channels, out_channels, 1, norm_cfg=self.norm_cfg, act_cfg=None), nn.MaxPool2d(2, 2)
            )
            for _ in range(num_extra)
        )
        self.fpn_stages = ModuleList(self._make_stage() for _ in range(stack_times))

    def _make_stage(self) -> nn.ModuleDict:
        cells = nn.ModuleDict()
        for name, _, _, out in STEPS:
            cell = GlobalPoolingCell if name.startswith('gp') else SumCell
            helper = out in ('p5a', 'p7a')  # merged once more before it is an output
            kwargs = dict(with_out_conv=False) if helper else dict(out_norm_cfg=self.norm_cfg)
            cells[name] = cell(in_channels=self.out_channels, out_channels=self.out_channels, **kwargs)
        return cells

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, self.num_ins)
        if self.num_outs != 5:
            raise UserValueError(f'NASFPN has five levels, num_outs={self.num_outs} cannot be made')
        used = inputs[self.start_level : self.backbone_end_level]
        feats = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for downsample in self.extra_downsamples:
            feats.append(downsample(feats[-1]))
        levels = dict(zip(('p3', 'p4', 'p5', 'p6', 'p7'), feats, strict=True))
        for stage in self.fpn_stages:
            for name, first, second, out in STEPS:
                levels[out] = stage[name](levels[first], levels[second], out_size=levels[out[:2]].shape[-2:])
        return tuple(levels[f'p{i}'] for i in range(3, 8))
