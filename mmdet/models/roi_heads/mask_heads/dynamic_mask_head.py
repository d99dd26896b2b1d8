from __future__ import annotations

from torch import Tensor, nn

from mmdet.models.core import mean_count
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType

from .fcn_mask_head import FCNMaskHead


@MODELS.register_module()
class DynamicMaskHead(FCNMaskHead):
    """A mask head on what a query sees in its region (QueryInst, arXiv:2105.01928, Sec. 3.2).

    Args:
        dynamic_conv_cfg: Of what the query does to the region, whose size must stay (``with_proj=False``).
        loss_mask: Of probabilities.
        kwargs: For :class:`FCNMaskHead`.
    """

    def __init__(
        self,
        num_convs: int = 4,
        roi_feat_size: int = 14,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        conv_out_channels: int = 256,
        num_classes: int = 80,
        class_agnostic: bool = False,
        upsample_cfg: ConfigType = dict(type='deconv', scale_factor=2),
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        dynamic_conv_cfg: ConfigType = dict(
            type='DynamicConv',
            in_channels=256,
            feat_channels=64,
            out_channels=256,
            input_feat_shape=14,
            with_proj=False,
            act_cfg=dict(type='ReLU', inplace=True),
            norm_cfg=dict(type='LN'),
        ),
        loss_mask: ConfigType = dict(type='DiceLoss', loss_weight=8.0),
        **kwargs,
    ) -> None:
        super().__init__(
            num_convs=num_convs,
            roi_feat_size=roi_feat_size,
            in_channels=in_channels,
            conv_kernel_size=conv_kernel_size,
            conv_out_channels=conv_out_channels,
            num_classes=num_classes,
            class_agnostic=class_agnostic,
            upsample_cfg=upsample_cfg,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            loss_mask=loss_mask,
            **kwargs,
        )
        self.instance_interactive_conv = MODELS.build(dynamic_conv_cfg)

    def init_weights(self) -> None:
        for value in self.parameters():
            if value.dim() > 1:
                nn.init.xavier_uniform_(value)
        nn.init.constant_(self.conv_logits.bias, 0)

    def forward(self, roi_feat: Tensor, proposal_feat: Tensor) -> Tensor:  # type: ignore[override]  # queries too
        """Mask logits ``(K, classes, h, w)`` of regions ``(K, C, h', w')`` and their queries ``(..., C)``."""
        queries = proposal_feat.reshape(-1, self.in_channels)
        seen = self.instance_interactive_conv(queries, roi_feat)
        return super().forward(seen.transpose(1, 2).reshape(roi_feat.shape))

    def _loss_of(self, mask_preds: Tensor, targets: Tensor, labels: Tensor, used: Tensor) -> Tensor:
        index = labels[:, None, None, None].expand(-1, 1, *mask_preds.shape[2:])
        masks = mask_preds.gather(1, index)[:, 0].sigmoid()
        return self.loss_mask(masks, targets, used.to(masks.dtype), avg_factor=mean_count(used.sum()))
