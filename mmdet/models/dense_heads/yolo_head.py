"""YOLOv3 (arXiv:1804.02767). Letters: B images, G ground truths, P anchors of all levels, C classes, A of a cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import bias_init_with_prob, constant_init, normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmdet.errors import UserValueError
from mmdet.models.core import (
    PaddedGT,
    Priors,
    TestCfg,
    by_batch,
    detections,
    flatten_levels,
    map_sizes,
    multi_apply,
    split_levels,
    stable_topk,
)
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.ops.one_hot import one_hot
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptInstanceList

from . import family_joints, joints
from .base_dense_head import BaseDenseHead

_ANCHORS = dict(
    type='YOLOAnchorGenerator',
    base_sizes=[
        [(116, 90), (156, 198), (373, 326)],
        [(30, 61), (62, 45), (59, 119)],
        [(10, 13), (16, 30), (33, 23)],
    ],
    strides=[32, 16, 8],
)


@MODELS.register_module()
class YOLOV3Head(BaseDenseHead):
    """One convolution and one predictor on each level: for every anchor box, objectness and classes.

    Args:
        in_channels, out_channels: Channels of each level before and after its convolution.
        featmap_strides: Strides of the levels, largest first.
        one_hot_smoother: How much of the class targets is spread over all classes.
        loss_cls, loss_conf, loss_xy, loss_wh: Of classes, objectness, centres and sides.
    """

    use_sigmoid_cls = True

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int] = (1024, 512, 256),
        anchor_generator: ConfigType = _ANCHORS,
        bbox_coder: ConfigType = dict(type='YOLOBBoxCoder'),
        featmap_strides: Sequence[int] = (32, 16, 8),
        one_hot_smoother: float = 0.0,
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        act_cfg: ConfigType = dict(type='LeakyReLU', negative_slope=0.1),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_conf: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_xy: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_wh: ConfigType = dict(type='MSELoss', loss_weight=1.0),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
    ) -> None:
        super().__init__(init_cfg=None)
        if len(in_channels) != len(out_channels) or len(in_channels) != len(featmap_strides):
            raise UserValueError(
                f'YOLOV3Head needs as many in_channels, out_channels and featmap_strides, not {len(in_channels)}, '
                f'{len(out_channels)} and {len(featmap_strides)}'
            )
        self.num_classes, self.cls_out_channels = num_classes, num_classes
        self.in_channels, self.out_channels, self.featmap_strides = in_channels, out_channels, featmap_strides
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            sampler = train_cfg.get('sampler')
            self.sampler = PseudoSampler() if sampler is None else TASK_UTILS.build(sampler)
        self.one_hot_smoother = one_hot_smoother
        self.conv_cfg, self.norm_cfg, self.act_cfg = conv_cfg, norm_cfg, act_cfg
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.prior_generator = TASK_UTILS.build(anchor_generator)
        self.loss_cls, self.loss_conf = MODELS.build(loss_cls), MODELS.build(loss_conf)
        self.loss_xy, self.loss_wh = MODELS.build(loss_xy), MODELS.build(loss_wh)
        self.num_base_priors = self.prior_generator.num_base_priors[0]
        self._init_layers()

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.featmap_strides)

    @property
    def num_attrib(self) -> int:
        """Values of an anchor: box, objectness and classes."""
        return 5 + self.num_classes

    def _init_layers(self) -> None:
        options = dict(padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        pairs = list(zip(self.in_channels, self.out_channels))
        self.convs_bridge = nn.ModuleList(ConvModule(a, b, 3, **options) for a, b in pairs)
        outputs = self.num_base_priors * self.num_attrib
        self.convs_pred = nn.ModuleList(nn.Conv2d(b, outputs, 1) for _, b in pairs)

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, mean=0, std=0.01)
            if isinstance(module, _NormBase):
                constant_init(module, 1)
        biases = [value for name, value in self.convs_pred.named_parameters() if name.endswith('bias')]
        with torch.no_grad():
            for bias, stride in zip(biases, self.featmap_strides):
                by_anchor = bias.view(self.num_base_priors, -1)
                by_anchor[:, 4] += bias_init_with_prob(8 / (608 / stride) ** 2)  # eight objects in 608 x 608 pixels
                by_anchor[:, 5:] += bias_init_with_prob(0.01)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...]]:  # type: ignore[override]  # as in 3.x
        """A tuple with the maps ``[(B, A * (5 + C), H, W)]``."""
        return (tuple(pred(bridge(level)) for level, bridge, pred in zip(x, self.convs_bridge, self.convs_pred)),)

    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]  # one list of maps, as in 3.x
        self,
        pred_maps: Sequence[Tensor],
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image, from the ``nms_pre`` best pairs of anchor and class of all levels together.

        Anchors whose objectness is less than ``test_cfg.conf_thr`` are left out first.
        """
        cfg = self.test_cfg if cfg is None else cfg
        test_cfg, priors = TestCfg.read(cfg), self._priors(pred_maps)
        flat = flatten_levels(pred_maps, self.num_attrib).float()
        objects, scores = flat[..., 4].sigmoid(), flat[..., 5:].sigmoid()
        # Sides of an untrained network stay numbers.
        preds = torch.cat([flat[..., :2].sigmoid(), flat[..., 2:4].clamp(max=20)], -1)
        boxes = self.bbox_coder.decode(priors.boxes, preds, priors.stride[:, None])
        if (threshold := cfg.get('conf_thr', -1)) > 0:
            scores = scores.masked_fill((objects < threshold)[..., None], -1)
        count = scores[0].numel()
        top, index = stable_topk(scores.flatten(1), test_cfg.nms_pre if test_cfg.nms_pre > 0 else count)
        anchor = index // self.num_classes
        fields = dict(
            bboxes=boxes.gather(1, anchor[..., None].expand(-1, -1, 4)),
            scores=top,
            labels=index % self.num_classes,
            score_factors=objects.gather(1, anchor),
        )
        metas = batch_img_metas or [{}] * len(flat)
        if hasattr(self._bbox_post_process, 'by_batch'):
            return detections(fields, test_cfg, metas, rescale, with_nms, 'labels')
        return joints.post_process_each_image(self, fields, test_cfg.score_thr, metas, cfg, rescale, with_nms)

    def loss_by_feat(  # type: ignore[override]  # one list of maps, as in 3.x
        self,
        pred_maps: Sequence[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """``loss_cls``, ``loss_conf``, ``loss_xy`` and ``loss_wh``, each a list."""
        priors, sizes = self._priors(pred_maps), map_sizes(pred_maps)
        gt = PaddedGT.from_instances(batch_gt_instances, batch_gt_instances_ignore)
        own = not all(
            hasattr(m, 'by_batch') for m in (self.get_targets, self._get_targets_single, self.responsible_flags)
        )
        if own:
            targets, negative = family_joints.cell_maps(self, priors, sizes, batch_gt_instances)
        else:
            targets, negative = self._targets(priors, self._responsible(sizes, gt), gt)
        # Level by level, for a mean of the losses is one of each level.
        levels = (split_levels(value, priors.level_sizes) for value in (targets, negative))
        losses = multi_apply(self.loss_by_feat_single, pred_maps, *levels)
        return dict(zip(('loss_cls', 'loss_conf', 'loss_xy', 'loss_wh'), losses))

    def loss_by_feat_single(self, pred_map: Tensor, target_map: Tensor, neg_map: Tensor) -> tuple[Tensor, ...]:
        """Losses of one level: ``pred_map (B, A * (5 + C), H, W)``, targets ``(B, P, 5 + C)``, background."""
        flat, pos = flatten_levels([pred_map], self.num_attrib), target_map[..., 4]
        each = pos[..., None]
        return (
            self.loss_cls(flat[..., 5:], target_map[..., 5:], weight=each),
            self.loss_conf(flat[..., 4], target_map[..., 4], weight=(pos + neg_map).clamp(max=1)),
            self.loss_xy(flat[..., :2], target_map[..., :2], weight=each),
            self.loss_wh(flat[..., 2:4], target_map[..., 2:4], weight=each),
        )

    def _responsible(self, sizes: Sequence[tuple[int, int]], gt: PaddedGT) -> Tensor:
        """``(B, P)`` bool: whether an anchor's cell has the centre of a ground truth."""
        center_x, center_y = ((gt.boxes[..., i] + gt.boxes[..., i + 2]) / 2 for i in (0, 1))
        levels = []
        for (height, width), (stride_x, stride_y) in zip(sizes, self.prior_generator.strides):
            column, row = (center_x / stride_x).floor().long(), (center_y / stride_y).floor().long()
            inside = gt.mask & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            cells = torch.zeros(len(inside), height * width, dtype=torch.int32, device=inside.device)
            index = torch.where(inside, row * width + column, 0)
            cells = cells.scatter_reduce(1, index, inside.int(), 'amax') > 0
            levels.append(cells[..., None].expand(-1, -1, self.num_base_priors).flatten(1))
        return torch.cat(levels, 1)

    def _targets(self, priors: Priors, responsible: Tensor, gt: PaddedGT) -> tuple[Tensor, Tensor]:
        """Targets ``(B, P, 5 + C)``, zeros off the positives, and background ``(B, P)``, 0 or 1."""
        valid = torch.ones_like(responsible)
        grid = Priors(priors.boxes, valid, priors.level_sizes, priors.strides)
        assignment = self._assign(self.assigner, grid, gt, options=dict(responsible=responsible))
        pos, neg = self._draw(grid, assignment, gt)
        pos, neg = assignment.pos if pos is None else pos, assignment.neg if neg is None else neg
        boxes, labels = gt.gather(assignment.gt_inds)
        anchors = grid.expanded()
        boxes = self.bbox_coder.encode(anchors, torch.where(pos[..., None], boxes, anchors), priors.stride[:, None])
        classes = one_hot(labels, self.num_classes, boxes.dtype)
        if self.one_hot_smoother:
            classes = classes * (1 - self.one_hot_smoother) + self.one_hot_smoother / self.num_classes
        targets = torch.cat([boxes, torch.ones_like(boxes[..., :1]), classes], -1)
        return torch.where(pos[..., None], targets, 0.0), neg.to(boxes.dtype)

    @by_batch
    def responsible_flags(
        self, featmap_sizes: Sequence[tuple[int, int]], gt_bboxes: Tensor, device: torch.device | str
    ) -> list[Tensor]:
        """``[(P_level,)]`` bool for the boxes ``(n, 4)`` of one image, as :meth:`_responsible`."""
        labels = gt_bboxes.new_zeros(len(gt_bboxes)).long()
        gt = PaddedGT.from_instances([InstanceData(bboxes=gt_bboxes, labels=labels)])
        sizes = [height * width * self.num_base_priors for height, width in featmap_sizes]
        return list(self._responsible(featmap_sizes, gt)[0].to(device).split(sizes))

    @by_batch
    def get_targets(
        self,
        anchor_list: Sequence[Sequence[Tensor]],
        responsible_flag_list: Sequence[Sequence[Tensor]],
        batch_gt_instances: InstanceList,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Targets ``[(B, P_level, 5 + C)]`` and background ``[(B, P_level)]`` by level, of lists by image and level."""
        sizes = [len(level) for level in anchor_list[0]]
        images = zip(anchor_list, responsible_flag_list, batch_gt_instances)
        singles = zip(*(self._get_targets_single(*image) for image in images))
        targets, negative = (split_levels(torch.stack(values), sizes) for values in singles)
        return targets, negative

    @by_batch
    def _get_targets_single(
        self, anchors: Sequence[Tensor], responsible_flags: Sequence[Tensor], gt_instances: InstanceData
    ) -> tuple[Tensor, Tensor]:
        """Targets ``(P, 5 + C)`` and background ``(P,)`` of one image, whose anchors and flags are lists by level."""
        responsible = torch.cat(list(responsible_flags)).bool()[None]
        sizes = [len(level) for level in anchors]
        priors = Priors(torch.cat(list(anchors))[None], responsible, sizes, self.featmap_strides)
        targets, negative = self._targets(priors, responsible, PaddedGT.from_instances([gt_instances]))
        return targets[0], negative[0]
