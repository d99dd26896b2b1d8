from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.utils import MultiConfig

from .fcn_mask_head import FCNMaskHead


@MODELS.register_module()
class CoarseMaskHead(FCNMaskHead):
    """Small masks by fully connected layers (PointRend, arXiv:1912.08193, Sec. 4.1).

    Args:
        downsample_factor: How much smaller the masks are than the features of a region.
    """

    def __init__(
        self,
        num_convs: int = 0,
        num_fcs: int = 2,
        fc_out_channels: int = 1024,
        downsample_factor: int = 2,
        init_cfg: MultiConfig = dict(
            type='Xavier', override=[dict(name='fcs'), dict(type='Constant', val=0.001, name='fc_logits')]
        ),
        *arg,
        **kwarg,
    ) -> None:
        kwarg.update(num_convs=num_convs, upsample_cfg=dict(type=None), init_cfg=None)
        super().__init__(*arg, **kwarg)
        self.init_cfg = init_cfg
        if num_fcs < 1 or downsample_factor < 1:
            raise UserValueError(f'num_fcs={num_fcs} and downsample_factor={downsample_factor} must be at least 1')
        self.num_fcs, self.fc_out_channels, self.downsample_factor = num_fcs, fc_out_channels, downsample_factor
        del self.conv_logits
        width = self.conv_out_channels if num_convs else self.in_channels
        self.downsample_conv = None
        if downsample_factor > 1:
            layer = dict(stride=downsample_factor, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg)
            self.downsample_conv = ConvModule(width, self.conv_out_channels, downsample_factor, **layer)
            width = self.conv_out_channels
        height, columns = (size // downsample_factor for size in self.roi_feat_size)
        self.output_size, self.output_area = (height, columns), height * columns
        widths = [width * self.output_area] + [fc_out_channels] * num_fcs
        self.fcs = nn.ModuleList(nn.Linear(first, second) for first, second in zip(widths, widths[1:]))
        self.fc_logits = nn.Linear(fc_out_channels, self.num_classes * self.output_area)

    def init_weights(self) -> None:
        super(FCNMaskHead, self).init_weights()

    def _logits(self, x: Tensor) -> Tensor:
        if self.downsample_conv is not None:
            x = self.downsample_conv(x)
        x = x.flatten(1)
        for fc in self.fcs:
            x = self.relu(fc(x))
        return self.fc_logits(x).unflatten(1, (self.num_classes, *self.output_size))
