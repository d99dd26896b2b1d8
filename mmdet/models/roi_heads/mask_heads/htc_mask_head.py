from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS

from .fcn_mask_head import FCNMaskHead


@MODELS.register_module()
class HTCMaskHead(FCNMaskHead):
    """A mask head that takes in the features of the one before (HTC, arXiv:1901.07518, Sec. 3.1, Eq. 5).

    Args:
        with_conv_res: Whether there is one before; its features pass a 1x1 convolution.
    """

    def __init__(self, with_conv_res: bool = True, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.with_conv_res = with_conv_res
        if with_conv_res:
            width = self.conv_out_channels
            self.conv_res = ConvModule(width, width, 1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)

    def forward(  # type: ignore[override]  # both outputs by default, as in 3.x
        self, x: Tensor, res_feat: Tensor | None = None, return_logits: bool = True, return_feat: bool = True
    ) -> Tensor | list[Tensor]:
        """Mask logits ``(K, C, h, w)`` and the features that they come from, or the one that is asked for."""
        if res_feat is not None:
            if not self.with_conv_res:
                raise UserValueError('a mask head with with_conv_res=False takes no features of another')
            x = x + self.conv_res(res_feat)
        for conv in self.convs:
            x = conv(x)
        outs = [self._logits(x)] if return_logits else []
        if return_feat:
            outs.append(x)
        return outs if len(outs) > 1 else outs[0]
