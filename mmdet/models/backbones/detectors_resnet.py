"""ResNets of DetectoRS (arXiv:2006.02334): switchable atrous convolution and recursive feedback."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmdet.errors import UserKeyError, UserTypeError, UserValueError
from mmdet.models.backbones.resnet import Bottleneck as _Bottleneck
from mmdet.models.backbones.resnet import ResNet
from mmdet.models.backbones.resnext import Bottleneck as ResNeXtBottleneck
from mmdet.models.backbones.resnext import ResNeXt
from mmdet.models.layers.building import build_conv_layer, conv_norm_init_cfg, pretrained_init_cfg
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class Bottleneck(_Bottleneck):
    """Bottleneck with an optional switchable 3x3 convolution and an input for features that are fed back.

    Args:
        rfp_inplanes: Channels of the features that are fed back, None for no such input.
        sac: Config of the convolution in place of the 3x3 one.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        rfp_inplanes: int | None = None,
        sac: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        if sac is not None and kwargs.get('dcn') is not None:
            raise UserValueError(f'sac ({sac!r}) cannot stand beside dcn ({kwargs["dcn"]!r})')
        self.sac = sac
        self.with_sac = sac is not None
        self.rfp_inplanes = rfp_inplanes
        if init_cfg is None and rfp_inplanes:
            init_cfg = dict(type='Constant', val=0, override=dict(name='rfp_conv'))
        super().__init__(inplanes, planes, init_cfg=init_cfg, **kwargs)
        if rfp_inplanes:
            self.rfp_conv = build_conv_layer(None, rfp_inplanes, planes * self.expansion, 1, bias=True)

    def _conv2_cfg(self) -> dict | None:
        return self.sac if self.with_sac else super()._conv2_cfg()

    def rfp_forward(self, x: Tensor, rfp_feat: Tensor | None) -> Tensor:
        """``forward`` with ``rfp_feat`` added before the last ReLU."""
        out = self._forward(x)
        if self.rfp_inplanes:
            out = out + self.rfp_conv(rfp_feat)
        return self.relu(out)


@MODELS.register_module()
class DetectoRS_ResNet(ResNet):
    """ResNet for DetectoRS.

    Args:
        sac: Config of the switchable convolution, used in the stages chosen by ``stage_with_sac``.
        rfp_inplanes: Channels of the features that :meth:`rfp_forward` takes.
        output_img: Return the image before the feature maps, for the recursive pyramid.
    """

    arch_settings = {
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(
        self,
        sac: dict | None = None,
        stage_with_sac: tuple[bool, ...] = (False, False, False, False),
        rfp_inplanes: int | None = None,
        output_img: bool = False,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        self.sac = sac
        self.stage_with_sac = stage_with_sac
        self.rfp_inplanes = rfp_inplanes
        self.output_img = output_img
        given = pretrained_init_cfg(pretrained, init_cfg)
        if given is not None and not isinstance(given, dict):
            raise UserTypeError(f'init_cfg of DetectoRS_ResNet must be a dict, got {init_cfg!r}')
        if given is not None and 'type' not in given:
            raise UserKeyError(f"init_cfg {init_cfg!r} lacks the key 'type'")
        if given is not None and given['type'] != 'Pretrained':
            raise UserValueError(f"DetectoRS_ResNet starts from weights of type 'Pretrained' only, got {init_cfg!r}")
        super().__init__(init_cfg=given or conv_norm_init_cfg(), **kwargs)

    def make_res_layer(self, **kwargs: Any) -> ResLayer:
        """The next stage; all but the first take the maps of the pyramid back in."""
        stage = len(self.res_layers)
        first = dict(rfp_inplanes=self.rfp_inplanes) if stage > 0 else None
        sac = self.sac if self.stage_with_sac[stage] else None
        return ResLayer(sac=sac, first_block_kwargs=first, **kwargs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images -> the maps of ``out_indices``, behind the images themselves with ``output_img``."""
        outs = super().forward(x)
        return (x, *outs) if self.output_img else outs

    def rfp_forward(self, x: Tensor, rfp_feats: list[Tensor]) -> tuple[Tensor, ...]:
        """The outputs for image ``x`` with a feature map fed back into every stage but the first."""
        x = self.maxpool(self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x))))
        outs = []
        for i, name in enumerate(self.res_layers):
            for block in getattr(self, name):
                x = block.rfp_forward(x, rfp_feats[i] if i > 0 else None)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


class GroupedBottleneck(ResNeXtBottleneck, Bottleneck):
    """The same with the grouped 3x3 convolution of ResNeXt."""


@MODELS.register_module()
class DetectoRS_ResNeXt(ResNeXt, DetectoRS_ResNet):
    """ResNeXt for DetectoRS; see both of them for the arguments."""

    arch_settings = {
        depth: (GroupedBottleneck, num_blocks) for depth, (_, num_blocks) in DetectoRS_ResNet.arch_settings.items()
    }
