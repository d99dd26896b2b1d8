from __future__ import annotations

from torch import Tensor, nn

from mmdet.registry import MODELS

from .anchor_head import AnchorHead

_ANCHORS = dict(
    type='AnchorGenerator',
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128],
)


@MODELS.register_module()
class RetinaHead(AnchorHead):
    """RetinaNet (arXiv:1708.02002, Sec. 4): two towers of ``stacked_convs`` convolutions, shared by all levels.

    The bias of the classifier starts where every class has probability 0.01 (Sec. 4.1, Initialization).

    Example:
        >>> head = RetinaHead(num_classes=11, in_channels=7)
        >>> scores, boxes = head([torch.rand(1, 7, 32, 32)])
        >>> scores[0].shape, boxes[0].shape
        (torch.Size([1, 99, 32, 32]), torch.Size([1, 36, 32, 32]))
    """

    def __init__(
        self,
        num_classes,
        in_channels,
        stacked_convs=4,
        conv_cfg=None,
        norm_cfg=None,
        anchor_generator=_ANCHORS,
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        super().__init__(num_classes, in_channels, anchor_generator=anchor_generator, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.cls_convs, self.reg_convs = self._towers()
        self.retina_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.retina_cls(self.cls_convs(x)), self.retina_reg(self.reg_convs(x))


@MODELS.register_module()
class RetinaSepBNHead(AnchorHead):
    """RetinaHead whose levels share the convolutions but not the norms (NAS-FPN, arXiv:1904.07392).

    Args:
        num_ins: Levels of the pyramid.
    """

    def __init__(
        self,
        num_classes,
        num_ins,
        in_channels,
        stacked_convs=4,
        conv_cfg=None,
        norm_cfg=None,
        init_cfg=None,
        **kwargs,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(
                type='Normal',
                layer='Conv2d',
                std=0.01,
                override=[
                    dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
                    dict(type='Normal', name='retina_reg', std=0.01),
                ],
            )
        self.num_ins, self.stacked_convs = num_ins, stacked_convs
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        self.relu = nn.ReLU(inplace=True)
        cls_towers = [self._tower() for _ in range(self.num_ins)]
        reg_towers = [self._tower() for _ in range(self.num_ins)]
        for towers in (cls_towers, reg_towers):
            for tower in towers[1:]:
                for layer, first in zip(tower, towers[0]):
                    layer.conv = first.conv
        self.cls_convs, self.reg_convs = nn.ModuleList(cls_towers), nn.ModuleList(reg_towers)
        self.retina_cls = nn.Conv2d(self.feat_channels, self.num_base_priors * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(self.feat_channels, self.num_base_priors * self.reg_dim, 3, padding=1)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        scores, boxes = [], []
        for feature, cls_tower, reg_tower in zip(feats, self.cls_convs, self.reg_convs):
            scores.append(self.retina_cls(cls_tower(feature)))
            boxes.append(self.retina_reg(reg_tower(feature)))
        return scores, boxes
