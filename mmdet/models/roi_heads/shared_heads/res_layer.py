from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.backbones import ResNet
from mmdet.models.layers import ResLayer as _ResLayer
from mmdet.registry import MODELS
from mmdet.utils import MultiConfig


@MODELS.register_module()
class ResLayer(BaseModule):
    """One stage of a ResNet on the features of each region, as in the C4 variants (arXiv:1512.03385, appendix A).

    Args:
        stage: Index of the stage, 3 for the last.
    """

    def __init__(
        self,
        depth,
        stage=3,
        stride=2,
        dilation=1,
        style='pytorch',
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        with_cp=False,
        dcn=None,
        pretrained=None,
        init_cfg=None,
    ) -> None:
        super().__init__(init_cfg)
        if init_cfg is not None and pretrained is not None:
            raise UserValueError('give either init_cfg or pretrained, not both')
        self.norm_eval, self.norm_cfg, self.stage, self.fp16_enabled = norm_eval, norm_cfg, stage, False
        block, stage_blocks = ResNet.arch_settings[depth]
        planes = 64 * 2**stage
        layer = _ResLayer(
            block,
            64 * 2 ** (stage - 1) * block.expansion,
            planes,
            stage_blocks[stage],
            stride=stride,
            dilation=dilation,
            style=style,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            dcn=dcn,
        )
        self.add_module(f'layer{stage + 1}', layer)
        if pretrained is not None:
            self.init_cfg: MultiConfig = dict(type='Pretrained', checkpoint=pretrained)
        elif init_cfg is None:
            self.init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]

    def forward(self, x: Tensor) -> Tensor:
        """``(K, C, h, w)`` -> ``(K, out, h / stride, w / stride)``."""
        return getattr(self, f'layer{self.stage + 1}')(x)

    def train(self, mode: bool = True) -> ResLayer:
        """With ``norm_eval`` the batch norms stay in evaluation mode."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self
