from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import nn

from mmdet.registry import MODELS

from .fcos_head import FCOSHead

_DEFORMABLE = dict(kernel_size=3, padding=1, bias=True, conv_cfg=dict(type='DCNv2', deform_groups=2))
_PLAIN = dict(kernel_size=3, padding=1, bias=False, conv_cfg=dict(type='Conv'))
_POINTWISE = dict(kernel_size=1, bias=False, conv_cfg=dict(type='Conv'))


@MODELS.register_module()
class NASFCOSHead(FCOSHead):
    """FCOS with the towers that a search found (NAS-FCOS, arXiv:1906.04423, Fig. 4)."""

    def __init__(self, *args, init_cfg=None, **kwargs) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Caffe2Xavier', layer=['ConvModule', 'Conv2d']),
                dict(
                    type='Normal',
                    std=0.01,
                    override=[
                        dict(name='conv_reg'),
                        dict(name='conv_centerness'),
                        dict(name='conv_cls', type='Normal', std=0.01, bias_prob=0.01),
                    ],
                ),
            ]
        super().__init__(*args, **{**kwargs, 'init_cfg': init_cfg})

    def _tower(self) -> nn.Sequential:
        widths = [self.in_channels, *[self.feat_channels] * 3]
        layers = (_DEFORMABLE, _PLAIN, _DEFORMABLE, _POINTWISE)
        return nn.Sequential(
            *(ConvModule(w, self.feat_channels, norm_cfg=self.norm_cfg, **layer) for w, layer in zip(widths, layers))  # type: ignore[arg-type]
        )
