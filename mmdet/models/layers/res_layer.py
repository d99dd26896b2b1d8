from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.building import build_conv_layer, build_norm_layer, run_checkpointed


class ResLayer(Sequential):
    """A stage of residual blocks.

    Args:
        block: Class of the blocks, called as ``block(inplanes=, planes=, stride=, downsample=, conv_cfg=, norm_cfg=,
            **kwargs)``.
        stride: Stride of the block that downsamples.
        avg_down: Downsample the shortcut by average pooling instead of a strided convolution.
        downsample_first: Whether the first block downsamples, or the last one (Hourglass).
        first_block_kwargs: Arguments of the first block alone.
    """

    def __init__(
        self,
        block: type[BaseModule],
        inplanes: int,
        planes: int,
        num_blocks: int,
        stride: int = 1,
        avg_down: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        downsample_first: bool = True,
        *,
        first_block_kwargs: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.block = block
        out_channels = planes * block.expansion
        shortcut = None
        if stride != 1 or inplanes != out_channels:
            pool = []
            if avg_down:
                pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)]
            shortcut = nn.Sequential(
                *pool,
                build_conv_layer(
                    conv_cfg, inplanes, out_channels, kernel_size=1, stride=1 if avg_down else stride, bias=False
                ),
                build_norm_layer(norm_cfg, out_channels)[1],
            )

        changing = 0 if downsample_first else num_blocks - 1
        blocks = []
        for i in range(num_blocks):
            blocks.append(
                block(
                    inplanes=inplanes if i <= changing else out_channels,
                    planes=planes if i >= changing else inplanes,
                    stride=stride if i == changing else 1,
                    downsample=shortcut if i == changing else None,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    **kwargs,
                    **(first_block_kwargs or {} if i == 0 else {}),
                )
            )
        super().__init__(*blocks)


class SimplifiedBasicBlock(BaseModule):
    """A basic residual block whose norm is optional and which ends with the sum, without ReLU (SCNet)."""

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = 'pytorch',
        with_cp: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = dict(type='BN'),
        dcn: dict | None = None,
        plugins: list[dict] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if dcn is not None or plugins is not None or with_cp:
            raise UserValueError(
                f'SimplifiedBasicBlock takes no dcn ({dcn!r}), no plugins ({plugins!r}) and no with_cp ({with_cp})'
            )
        self.with_norm = norm_cfg is not None
        bias = norm_cfg is None
        self.conv1 = build_conv_layer(
            conv_cfg, inplanes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=bias
        )
        if norm_cfg is not None:
            self.norm1_name, norm1 = build_norm_layer(norm_cfg, planes, postfix=1)
            self.add_module(self.norm1_name, norm1)
        self.conv2 = build_conv_layer(conv_cfg, planes, planes, 3, padding=1, bias=bias)
        if norm_cfg is not None:
            self.norm2_name, norm2 = build_norm_layer(norm_cfg, planes, postfix=2)
            self.add_module(self.norm2_name, norm2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.stride = stride
        self.dilation = dilation
        self.with_cp = with_cp

    @property
    def norm1(self) -> nn.Module | None:
        """The norm after the first convolution."""
        return getattr(self, self.norm1_name) if self.with_norm else None

    @property
    def norm2(self) -> nn.Module | None:
        """The norm after the second convolution."""
        return getattr(self, self.norm2_name) if self.with_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, planes, H / stride, W / stride)``."""
        return run_checkpointed(self._forward, x, self.with_cp)

    def _forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        if self.norm1 is not None:
            out = self.norm1(out)
        out = self.conv2(self.relu(out))
        if self.norm2 is not None:
            out = self.norm2(out)
        return out + (x if self.downsample is None else self.downsample(x))
