"""The backbone of TridentNet (arXiv:1901.01892)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones.resnet import Bottleneck, ResNet
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class TridentConv(BaseModule):
    """One kernel applied with several dilations, one for each part of the batch.

    In inference only the dilation ``test_branch_idx`` is used, unless that is -1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        trident_dilations: tuple[int, ...] = (1, 2, 3),
        test_branch_idx: int = 1,
        bias: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.stride = stride
        self.trident_dilations = tuple(trident_dilations)
        self.test_branch_idx = test_branch_idx
        reference = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)
        self.weight, self.bias = reference.weight, reference.bias

    @property
    def dilations(self) -> tuple[int, ...]:
        """Of the branches that run at present."""
        if self.training or self.test_branch_idx == -1:
            return self.trident_dilations
        return (self.trident_dilations[self.test_branch_idx],)

    def forward(self, inputs: Tensor) -> Tensor:
        """(branches*B, C, H, W) -> the same of the outputs"""
        parts = inputs.chunk(len(self.dilations))
        outs = [
            F.conv2d(part, self.weight, self.bias, self.stride, dilation * (self.weight.shape[-1] // 2), dilation)
            for part, dilation in zip(parts, self.dilations, strict=True)
        ]
        return torch.cat(outs) if len(outs) > 1 else outs[0]


class TridentBottleneck(Bottleneck):
    """Bottleneck whose 3x3 convolution has a dilation for each branch; the branches lie along the batch.

    A tensor is an input that the branches share. A tuple is the output of such a block, one map for each branch.

    Args:
        concat_output: Return the branches as one batch, else as a tuple for the next block.
    """

    def __init__(
        self,
        trident_dilations: tuple[int, ...],
        test_branch_idx: int,
        concat_output: bool,
        **kwargs: Any,
    ) -> None:
        self.trident_dilations = trident_dilations
        self.num_branch = len(trident_dilations)
        self.test_branch_idx = test_branch_idx
        self.concat_output = concat_output
        super().__init__(**kwargs)

    def _make_conv2(self, cfg: dict | None, width: int, groups: int) -> None:
        super()._make_conv2(cfg, width, groups)  # for the order of the weights
        self.conv2 = TridentConv(
            width, width, 3, self.conv2_stride, self.trident_dilations, self.test_branch_idx, bias=False
        )

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """``(branches * B, C, H, W)``, the branches one after the other along the batch; the first block repeats it
        so."""
        branches = len(self.conv2.dilations)
        if isinstance(x, Tensor):
            x = x.repeat(branches, 1, 1, 1)
        else:
            x = x.joined if isinstance(x, _Branches) else torch.cat(tuple(x))
        out = super().forward(x)
        return out if self.concat_output else _Branches(out, branches)


class _Branches(tuple):
    """The maps of the branches, which are parts of ``joined``, so that the next block need not copy them."""

    joined: Tensor

    def __new__(cls, joined: Tensor, branches: int) -> _Branches:
        made = super().__new__(cls, joined.chunk(branches))
        made.joined = joined
        return made


@MODELS.register_module()
class TridentResNet(ResNet):
    """ResNet whose last stage, the third, has parallel branches of different dilation.

    While training the output is a batch of ``num_branch * B`` maps, branch by branch; in inference it has the branch
    ``test_branch_idx`` alone, or all if that is -1.
    """

    def __init__(
        self, depth: int, num_branch: int, test_branch_idx: int, trident_dilations: tuple[int, ...], **kwargs: Any
    ) -> None:
        if kwargs.get('num_stages') != 3:
            raise UserValueError(f'TridentResNet needs num_stages=3, got {kwargs.get("num_stages")}')
        if len(trident_dilations) != num_branch:
            raise UserValueError(f'trident_dilations {trident_dilations} must name each of the {num_branch} branches')
        if not -1 <= test_branch_idx < num_branch:
            raise UserValueError(f'test_branch_idx must be -1 to {num_branch - 1}, got {test_branch_idx}')
        self.num_branch = num_branch
        self.test_branch_idx = test_branch_idx
        self.trident_dilations = trident_dilations
        super().__init__(depth, **kwargs)

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage; the last one has the branches."""
        if len(self.res_layers) < self.num_stages - 1:
            return super().make_res_layer(**kwargs)
        kwargs.update(
            block=TridentBottleneck,
            dilation=1,
            trident_dilations=self.trident_dilations,
            test_branch_idx=self.test_branch_idx,
        )
        layer = ResLayer(concat_output=False, **kwargs)
        layer[-1].concat_output = True
        return layer
