"""CentripetalNet (arXiv:2003.09119). Letters: B images, C classes."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import normal_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import multi_apply
from mmdet.ops.deform_conv import DeformConv2d
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptMultiConfig

from .corner_head import CornerHead, CornerMaps


@MODELS.register_module()
class CentripetalHead(CornerHead):
    """Corners that point to the centre of their box: two belong together where their centres agree.

    Args:
        centripetal_shift_channels: 2, the logarithms of the distances to the centre in cells, along x and y.
        guiding_shift_channels: 2, the distances of the cell from the centre, which guide a deformable convolution
            (Sec. 3.3).
        feat_adaption_conv_kernel: Kernel size of that convolution.
    """

    def __init__(
        self,
        *args,
        centripetal_shift_channels: int = 2,
        guiding_shift_channels: int = 2,
        feat_adaption_conv_kernel: int = 3,
        loss_guiding_shift: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.05),
        loss_centripetal_shift: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1),
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        for name, channels in (('centripetal', centripetal_shift_channels), ('guiding', guiding_shift_channels)):
            if channels != 2:
                raise UserValueError(f'{name}_shift_channels must be 2, for x and y, not {channels}')
        self.centripetal_shift_channels, self.guiding_shift_channels = 2, 2
        self.feat_adaption_conv_kernel = feat_adaption_conv_kernel
        super().__init__(*args, init_cfg=init_cfg, **kwargs)  # type: ignore[misc]  # of which args has none
        if self.with_corner_emb:
            channels = self.corner_emb_channels
            raise UserValueError(f'corner_emb_channels must be 0, not {channels}: shifts pair the corners')
        self.loss_guiding_shift = MODELS.build(loss_guiding_shift)
        self.loss_centripetal_shift = MODELS.build(loss_centripetal_shift)

    def _init_centripetal_layers(self) -> None:
        kernel, width = self.feat_adaption_conv_kernel, self.in_channels
        offsets = kernel**2 * self.guiding_shift_channels
        levels = range(self.num_feat_levels)
        self.tl_feat_adaption, self.br_feat_adaption = (
            nn.ModuleList(DeformConv2d(width, width, kernel, padding=(kernel - 1) // 2) for _ in levels)
            for _ in range(2)
        )
        self.tl_guiding_shift, self.br_guiding_shift = (
            self._of_each_level(self.guiding_shift_channels) for _ in range(2)
        )
        self.tl_dcn_offset, self.br_dcn_offset = (
            nn.ModuleList(ConvModule(self.guiding_shift_channels, offsets, 1, bias=False, act_cfg=None) for _ in levels)
            for _ in range(2)
        )
        self.tl_centripetal_shift, self.br_centripetal_shift = (
            self._of_each_level(self.centripetal_shift_channels) for _ in range(2)
        )

    def _init_layers(self) -> None:
        super()._init_layers()
        self._init_centripetal_layers()

    def init_weights(self) -> None:
        super().init_weights()
        for layer in (*self.tl_feat_adaption, *self.br_feat_adaption):
            normal_init(layer, std=0.01)
        for layer in (*self.tl_dcn_offset, *self.br_dcn_offset):
            normal_init(layer.conv, std=0.1)
        branches = self.tl_guiding_shift, self.br_guiding_shift, self.tl_centripetal_shift, self.br_centripetal_shift
        for module in nn.ModuleList(branches).modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()

    # Shifts in place of tags, as in 3.x.
    def forward_single(self, x: Tensor, lvl_ind: int) -> list[Tensor]:  # type: ignore[override]
        """Of one map: logits ``(B, C, H, W)`` of the corners, then offsets, guiding and centripetal shifts
        ``(B, 2, H, W)``.

        The top-left corner comes before the bottom-right one.
        """
        tl_heat, br_heat, _, _, tl_off, br_off, *pooled = super().forward_single(x, lvl_ind, return_pool=True)
        guiding, centripetal = [], []
        for corner, feat in zip(('tl', 'br'), pooled):
            layer = lambda name, corner=corner: getattr(self, f'{corner}_{name}')[lvl_ind]
            guiding.append(layer('guiding_shift')(feat))
            # The shift has a loss of its own, which alone trains it.
            aligned = layer('feat_adaption')(feat, layer('dcn_offset')(guiding[-1].detach()))
            centripetal.append(layer('centripetal_shift')(aligned))
        return [tl_heat, br_heat, tl_off, br_off, *guiding, *centripetal]

    # The arguments of these are those of 3.x.
    def loss_by_feat(  # type: ignore[override]
        self,
        tl_heats: list[Tensor],
        br_heats: list[Tensor],
        tl_offs: list[Tensor],
        br_offs: list[Tensor],
        tl_guiding_shifts: list[Tensor],
        br_guiding_shifts: list[Tensor],
        tl_centripetal_shifts: list[Tensor],
        br_centripetal_shifts: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: InstanceList | None = None,
    ) -> dict:
        wanted = dict(with_guiding_shift=True, with_centripetal_shift=True)
        targets = self._targets_of(tl_heats, batch_gt_instances, batch_img_metas, **wanted)
        values = multi_apply(
            self.loss_by_feat_single,
            tl_heats,
            br_heats,
            tl_offs,
            br_offs,
            tl_guiding_shifts,
            br_guiding_shifts,
            tl_centripetal_shifts,
            br_centripetal_shifts,
            targets,
        )
        return dict(zip(('det_loss', 'off_loss', 'guiding_loss', 'centripetal_loss'), values))

    def loss_by_feat_single(  # type: ignore[override]
        self,
        tl_hmp: Tensor,
        br_hmp: Tensor,
        tl_off: Tensor,
        br_off: Tensor,
        tl_guiding_shift: Tensor,
        br_guiding_shift: Tensor,
        tl_centripetal_shift: Tensor,
        br_centripetal_shift: Tensor,
        targets: dict[str, Any],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Losses of one map: detection, offset, guiding shift, centripetal shift."""
        det, _, _, off = super().loss_by_feat_single(tl_hmp, br_hmp, None, None, tl_off, br_off, targets)
        guiding = self._loss_at_corners(
            self.loss_guiding_shift, tl_guiding_shift, br_guiding_shift, targets, 'guiding_shift'
        )
        centripetal = self._loss_at_corners(
            self.loss_centripetal_shift, tl_centripetal_shift, br_centripetal_shift, targets, 'centripetal_shift'
        )
        return det, off, guiding, centripetal

    def predict_by_feat(  # type: ignore[override]
        self,
        tl_heats: list[Tensor],
        br_heats: list[Tensor],
        tl_offs: list[Tensor],
        br_offs: list[Tensor],
        tl_guiding_shifts: list[Tensor],
        br_guiding_shifts: list[Tensor],
        tl_centripetal_shifts: list[Tensor],
        br_centripetal_shifts: list[Tensor],
        batch_img_metas: list[dict] = None,  # type: ignore[assignment]  # noqa: RUF013
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image, best first."""
        tl = CornerMaps(tl_heats[-1], tl_offs[-1], shift=tl_centripetal_shifts[-1])
        br = CornerMaps(br_heats[-1], br_offs[-1], shift=br_centripetal_shifts[-1])
        return self._predict_corners(tl, br, batch_img_metas, rescale, with_nms)
