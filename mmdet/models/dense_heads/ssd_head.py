"""SSD (arXiv:1512.02325). Letters: B images, P anchors of all levels, C classes."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet.models.core import DenseTargets, by_batch, flatten_outputs, hard_negatives, multi_apply
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, MultiConfig, OptConfigType

from . import joints
from .anchor_head import AnchorHead


@MODELS.register_module()
class SSDHead(AnchorHead):
    """Softmax classes and boxes by convolutions of each level's own.

    Args:
        stacked_convs: Convolutions before the predictors of each level.
        use_depthwise: Whether convolutions are depthwise separable (SSDLite, arXiv:1801.04381, Sec. 6.2).
        loss_cls: Ranks the negatives too.
        loss_bbox: Smooth L1 with ``train_cfg.smoothl1_beta`` where it is None.
    """

    in_channels: Sequence[int]  # type: ignore[assignment]  # of each level, unlike other heads

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: Sequence[int] = (512, 1024, 512, 256, 256, 256),
        stacked_convs: int = 0,
        feat_channels: int = 256,
        use_depthwise: bool = False,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        act_cfg: OptConfigType = None,
        anchor_generator: ConfigType = dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            strides=[8, 16, 32, 64, 100, 300],
            ratios=([2], [2, 3], [2, 3], [2, 3], [2], [2]),
            basesize_ratio_range=(0.1, 0.9),
        ),
        bbox_coder: ConfigType = dict(
            type='DeltaXYWHBBoxCoder',
            clip_border=True,
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        reg_decoded_bbox: bool = False,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: MultiConfig = dict(type='Xavier', layer='Conv2d', distribution='uniform', bias=0),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=False),
        loss_bbox: OptConfigType = None,
    ) -> None:
        super(AnchorHead, self).__init__(init_cfg=init_cfg)
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.stacked_convs, self.use_depthwise = stacked_convs, use_depthwise
        self.conv_cfg, self.norm_cfg, self.act_cfg = conv_cfg, norm_cfg, act_cfg
        self.loss_cls = MODELS.build(loss_cls)
        self.use_sigmoid_cls = loss_cls.get('use_sigmoid', False)
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1  # the last is background
        self.cls_focal_loss = self.fp16_enabled = False
        self.reg_decoded_bbox = reg_decoded_bbox
        self.prior_generator = TASK_UTILS.build(anchor_generator)
        self.num_base_priors = self.prior_generator.num_base_priors  # of each level, unlike other heads
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        beta = (train_cfg or {}).get('smoothl1_beta', 1.0)
        self.loss_bbox = MODELS.build(loss_bbox or dict(type='SmoothL1Loss', beta=beta))
        self._init_layers()
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            sampler = train_cfg.get('sampler')
            self.sampler = PseudoSampler() if sampler is None else TASK_UTILS.build(sampler)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = nn.ModuleList(), nn.ModuleList()
        for channels, num_priors in zip(self.in_channels, self.num_base_priors):
            self.cls_convs.append(self._branch(channels, num_priors * self.cls_out_channels))
            self.reg_convs.append(self._branch(channels, num_priors * 4))

    def _branch(self, channels: int, out_channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(self.stacked_convs):
            if self.use_depthwise:
                layers.append(self._conv(channels, channels, 3, groups=channels))
                layers.append(self._conv(channels, self.feat_channels, 1))
            else:
                layers.append(self._conv(channels, self.feat_channels, 3))
            channels = self.feat_channels
        if self.use_depthwise:
            layers.append(self._conv(channels, channels, 3, groups=channels))
            layers.append(nn.Conv2d(channels, out_channels, 1))
        else:
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=1))
        return nn.Sequential(*layers)

    def _conv(self, in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> ConvModule:
        return ConvModule(
            in_channels,
            out_channels,
            kernel,
            padding=kernel // 2,
            groups=groups,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        return multi_apply(lambda feat, cls, reg: (cls(feat), reg(feat)), x, self.cls_convs, self.reg_convs)

    def _each_loss(self, outputs, anchors: Tensor, targets: DenseTargets, avg_factor: Tensor) -> tuple:
        flat = flatten_outputs(*outputs)
        if not hasattr(self.loss_by_feat_single, 'by_batch'):
            return joints.losses_by_image(self, flat, anchors, targets)
        logits, deltas = flat
        return tuple([loss] for loss in self._losses(logits, deltas, anchors, targets, avg_factor))

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, targets: DenseTargets, avg_factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Classes with ``neg_pos_ratio`` hard negatives for each positive, and boxes (Sec. 2.2)."""
        t = targets
        loss = self.loss_cls(logits.flatten(0, 1), t.labels.flatten(), reduction_override='none')
        loss = loss.reshape(*t.labels.shape, -1).sum(-1) * t.label_weights  # (B, P)
        hard = hard_negatives(loss, t.pos, t.labels == self.num_classes, self.train_cfg['neg_pos_ratio'])
        pred, target = self._box_pairs(deltas, anchors, t)
        return (
            (loss * (t.pos | hard)).sum() / avg_factor,
            self._loss(self.loss_bbox, t.level_sizes, pred, target, t.bbox_weights, avg_factor=avg_factor),
        )

    @by_batch
    def loss_by_feat_single(
        self, cls_score, bbox_pred, anchor, labels, label_weights, bbox_targets, bbox_weights, avg_factor
    ) -> tuple[Tensor, Tensor]:
        """Class and box loss of one image: ``cls_score (P, C + 1)``, all other values ``(P,)`` or ``(P, 4)``."""
        logits, deltas, anchors = (value[None] for value in (cls_score, bbox_pred, anchor))
        targets = [value[None] for value in (labels, label_weights, bbox_targets, bbox_weights)]
        return self._losses(logits, deltas, anchors, joints.level_targets(self.num_classes, *targets), avg_factor)
