from __future__ import annotations

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers import build_linear_layer
from mmdet.ops.roi_align_levels import is_channels_last
from mmdet.registry import MODELS

from .bbox_head import BBoxHead


@MODELS.register_module()
class ConvFCBBoxHead(BBoxHead):
    """Convolutions and fully connected layers, shared first, then of each branch.

    ::

                                 /-> cls convs -> cls fcs -> cls
        shared convs -> shared fcs
                                 \\-> reg convs -> reg fcs -> reg
    """

    def __init__(
        self,
        num_shared_convs: int = 0,
        num_shared_fcs: int = 0,
        num_cls_convs: int = 0,
        num_cls_fcs: int = 0,
        num_reg_convs: int = 0,
        num_reg_fcs: int = 0,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
        conv_cfg=None,
        norm_cfg=None,
        init_cfg=None,
        *args,
        **kwargs,
    ) -> None:
        kwargs.update(init_cfg=init_cfg)
        super().__init__(*args, **kwargs)
        if num_cls_convs + num_reg_convs and num_shared_fcs:
            raise UserValueError('convolutions of a branch cannot follow shared fully connected layers')
        self.num_shared_convs, self.num_shared_fcs = num_shared_convs, num_shared_fcs
        self.num_cls_convs, self.num_cls_fcs = num_cls_convs, num_cls_fcs
        self.num_reg_convs, self.num_reg_fcs = num_reg_convs, num_reg_fcs
        self.conv_out_channels, self.fc_out_channels = conv_out_channels, fc_out_channels
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.shared_convs, self.shared_fcs, width = self._add_conv_fc_branch(
            num_shared_convs, num_shared_fcs, self.in_channels, True
        )
        self.shared_out_channels = width
        self.cls_convs, self.cls_fcs, self.cls_last_dim = self._add_conv_fc_branch(num_cls_convs, num_cls_fcs, width)
        self.reg_convs, self.reg_fcs, self.reg_last_dim = self._add_conv_fc_branch(num_reg_convs, num_reg_fcs, width)
        if num_shared_fcs == 0 and not self.with_avg_pool:
            if num_cls_fcs == 0:
                self.cls_last_dim *= self.roi_feat_area
            if num_reg_fcs == 0:
                self.reg_last_dim *= self.roi_feat_area
        self.relu = nn.ReLU(inplace=True)
        if self.with_cls:
            self.fc_cls = build_linear_layer(
                self.cls_predictor_cfg, in_features=self.cls_last_dim, out_features=self.cls_channels
            )
        if self.with_reg:
            self.fc_reg = build_linear_layer(
                self.reg_predictor_cfg, in_features=self.reg_last_dim, out_features=self.reg_channels
            )
        if init_cfg is None:
            names = [dict(name=name) for name in ('shared_fcs', 'cls_fcs', 'reg_fcs')]
            self.init_cfg += [dict(type='Xavier', distribution='uniform', override=names)]

    def _add_conv_fc_branch(
        self, num_branch_convs: int, num_branch_fcs: int, in_channels: int, is_shared: bool = False
    ) -> tuple[nn.ModuleList, nn.ModuleList, int]:
        convs, fcs, width = nn.ModuleList(), nn.ModuleList(), in_channels
        for _ in range(num_branch_convs):
            convs.append(
                ConvModule(width, self.conv_out_channels, 3, padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)
            )
            width = self.conv_out_channels
        if num_branch_fcs:
            if (is_shared or self.num_shared_fcs == 0) and not self.with_avg_pool:
                width *= self.roi_feat_area
            for _ in range(num_branch_fcs):
                fcs.append(nn.Linear(width, self.fc_out_channels))
                width = self.fc_out_channels
        return convs, fcs, width

    def _forward_shared(self, x: Tensor) -> Tensor:
        """What the layers that all branches share make of features ``(K, c, h, w)``."""
        for conv in self.shared_convs:
            x = conv(x)
        for fc in self.shared_fcs:
            x = self.relu(self._connected(fc, x))
        return x

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return self._forward_cls_reg(self._forward_shared(x))

    def _forward_cls_reg(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return (
            self.fc_cls(self._branch(x, self.cls_convs, self.cls_fcs)) if self.with_cls else None,
            self.fc_reg(self._branch(x, self.reg_convs, self.reg_fcs)) if self.with_reg else None,
        )

    def _branch(self, x: Tensor, convs: nn.ModuleList, fcs: nn.ModuleList) -> Tensor:
        for conv in convs:
            x = conv(x)
        for fc in fcs:
            x = self.relu(self._connected(fc, x))
        return x if x.dim() == 2 else self._flat(x)

    def _connected(self, fc: nn.Module, x: Tensor) -> Tensor:
        """A fully connected layer of features ``(K, c, h, w)`` or ``(K, c)``."""
        if x.dim() == 4 and x.is_cuda and not self.with_avg_pool:
            return flat_linear(fc, x)
        return fc(x if x.dim() == 2 else self._flat(x))

    def _flat(self, x: Tensor) -> Tensor:
        return (x.mean(dim=(-1, -2)) if self.with_avg_pool else x).flatten(1)


def flat_linear(fc: nn.Module, x: Tensor) -> Tensor:
    """``fc(x.flatten(1))`` of maps ``(K, c, h, w)``.

    Where the channels of the maps come last, the weights are turned in place of the maps, which are many more.
    """
    if not is_channels_last(x) or type(fc) is not nn.Linear or fc._forward_hooks or fc._forward_pre_hooks:
        return fc(x.flatten(1))
    weight = fc.weight.unflatten(1, (x.shape[1], -1)).transpose(1, 2).flatten(1)
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, fc.bias)


@MODELS.register_module()
class Shared2FCBBoxHead(ConvFCBBoxHead):
    """Two shared fully connected layers (FPN, arXiv:1612.03144, Sec. 4.2)."""

    def __init__(self, fc_out_channels: int = 1024, *args, **kwargs) -> None:
        kwargs.update(num_shared_convs=0, num_shared_fcs=2, fc_out_channels=fc_out_channels)
        super().__init__(*args, **kwargs)


@MODELS.register_module()
class Shared4Conv1FCBBoxHead(ConvFCBBoxHead):
    """Four shared convolutions and a fully connected layer (Group Normalization, arXiv:1803.08494, Sec. 4.2)."""

    def __init__(self, fc_out_channels: int = 1024, *args, **kwargs) -> None:
        kwargs.update(num_shared_convs=4, num_shared_fcs=1, fc_out_channels=fc_out_channels)
        super().__init__(*args, **kwargs)
