"""FPN with content-aware upsampling (arXiv:1905.02188)."""

from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import ModuleList, xavier_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import resolve_layer
from mmdet.models.necks.levels import Pyramid, check_maps
from mmdet.registry import MODELS


class _Resize(nn.Module):
    """Upsampling by 2 without weights; a size that was rounded up is cut afterwards."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.kwargs = dict(mode=mode, align_corners=False if mode == 'bilinear' else None)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, **self.kwargs)


@MODELS.register_module()
class FPN_CARAFE(Pyramid):
    """FPN whose upsampling is learned; the extra levels take part in the top-down path.

    Args:
        order: Order of convolution, norm and activation.
        upsample_cfg: ``type`` is one of 'nearest', 'bilinear', 'deconv', 'pixel_shuffle', 'carafe' or None (the
            coarser levels are added as they are); the rest are its arguments.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        order: tuple[str, ...] = ('conv', 'norm', 'act'),
        upsample_cfg: dict = dict(type='carafe', up_kernel=5, up_group=1, encoder_kernel=3, encoder_dilation=1),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError(f'FPN_CARAFE sets its own initial weights, init_cfg={init_cfg!r} cannot be given')
        super().__init__(init_cfg)
        if order not in (('conv', 'norm', 'act'), ('act', 'conv', 'norm')):
            raise UserValueError(f"order must be ('conv', 'norm', 'act') or ('act', 'conv', 'norm'), got {order!r}")
        self._describe(in_channels, out_channels, num_outs)
        used, num_extra = self._use_levels(start_level, end_level)
        self.upsample_cfg = dict(upsample_cfg)
        self.upsample = self.upsample_cfg['type']

        shared = dict(
            norm_cfg=resolve_layer(norm_cfg), bias=norm_cfg is None, act_cfg=act_cfg, inplace=False, order=order
        )
        self.lateral_convs = ModuleList(ConvModule(channels, out_channels, 1, **shared) for channels in used)
        for i in range(num_extra):
            channels = in_channels[self.backbone_end_level - 1] if i == 0 else out_channels
            self.lateral_convs.append(ConvModule(channels, out_channels, 3, stride=2, padding=1, **shared))
        num_levels = len(self.lateral_convs)
        self.fpn_convs = ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, **shared) for _ in range(num_levels)
        )
        self.upsample_modules = ModuleList()
        if self.upsample is not None:
            self.upsample_modules.extend(self._make_upsample() for _ in range(num_levels - 1))
        self.num_used = len(used)

    def _make_upsample(self) -> nn.Module:
        channels, cfg = self.out_channels, dict(self.upsample_cfg)
        if self.upsample in ('nearest', 'bilinear'):
            return _Resize(self.upsample)
        if self.upsample == 'deconv':
            kernel_size = cfg.get('upsample_kernel', 4)
            return nn.ConvTranspose2d(channels, channels, kernel_size, stride=2, padding=(kernel_size - 1) // 2)
        if self.upsample == 'pixel_shuffle':
            return MODELS.build(
                dict(
                    type='pixel_shuffle',
                    in_channels=channels,
                    out_channels=channels,
                    scale_factor=2,
                    upsample_kernel=cfg.get('upsample_kernel', 3),
                )
            )
        return MODELS.build(dict(cfg, channels=channels, scale_factor=2))

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                xavier_init(module, distribution='uniform')
        for module in self.upsample_modules:
            if hasattr(module, 'init_weights'):
                module.init_weights()

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps ``(B, out_channels, H, W)`` of the levels, finest first."""
        check_maps(self, inputs, self.num_ins)
        laterals: list[Tensor] = []
        for i, conv in enumerate(self.lateral_convs):
            if i <= self.num_used:  # the first extra level comes from the last input
                laterals.append(conv(inputs[min(i + self.start_level, len(inputs) - 1)]))
            else:
                laterals.append(conv(laterals[-1]))
        for i in reversed(range(len(laterals) - 1)):
            coarse = laterals[i + 1] if self.upsample is None else self.upsample_modules[i](laterals[i + 1])
            height, width = laterals[i].shape[2:]
            laterals[i] = laterals[i] + coarse[:, :, :height, :width]
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True))
