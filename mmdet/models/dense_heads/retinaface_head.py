"""RetinaFace (arXiv:1905.00641). Letters: B images, P anchors of all levels, N landmarks, K candidates kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import DenseTargets, flatten_outputs, hard_negatives, in_float32, multi_apply, pad_batch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType

from .anchor_head import AnchorHead


@MODELS.register_module()
class RetinaFaceHead(AnchorHead):
    """Face or not, box, and five landmarks of every anchor by 1x1 convolutions that all levels share.

    Ground truths have ``keypoints (n, N, 2)`` in pixels and ``keypoints_visible (n, N)``, 0 where a landmark is not
    annotated; detections have ``keypoints (n, N, 2)``.

    Args:
        landmark_coder: Turns landmarks into offsets from anchors.
        loss_landmark: Loss of the offsets of positives whose landmarks are annotated (Eq. 1).
        neg_pos_ratio: Hard negatives for each positive (Sec. 3.1, OHEM).
    """

    matches_in_targets = True

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 256,
        landmark_coder: ConfigType = dict(type='LandmarkCoder', num_points=5, target_stds=[0.1, 0.1]),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.25),
        loss_landmark: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.1),
        neg_pos_ratio: float = 3,
        init_cfg=dict(type='Normal', layer='Conv2d', std=0.01),
        **kwargs,
    ) -> None:
        if not loss_cls.get('type') == 'CrossEntropyLoss' or loss_cls.get('use_sigmoid', False):
            raise UserValueError(f'RetinaFaceHead mines hard negatives by softmax CrossEntropyLoss, not {loss_cls}')
        self.landmark_dim = 2 * landmark_coder.get('num_points', 5)
        super().__init__(num_classes, in_channels, loss_cls=loss_cls, loss_bbox=loss_bbox, init_cfg=init_cfg, **kwargs)
        self.landmark_coder = TASK_UTILS.build(landmark_coder)
        self.loss_landmark = MODELS.build(loss_landmark)
        self.neg_pos_ratio = neg_pos_ratio

    def _init_layers(self) -> None:
        super()._init_layers()
        self.conv_landmark = nn.Conv2d(self.in_channels, self.num_base_priors * self.landmark_dim, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.conv_cls(x), self.conv_reg(x), self.conv_landmark(x)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return multi_apply(self.forward_single, x)

    def loss_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self,
        cls_scores,
        bbox_preds,
        landmark_preds,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=None,
    ) -> dict:
        anchors, t = self._anchors_and_targets(
            cls_scores, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        logits, deltas, landmarks = flatten_outputs(
            (cls_scores, self.cls_out_channels), (bbox_preds, self.reg_dim), (landmark_preds, self.landmark_dim)
        )  # (B, P, .)
        loss_cls = self.loss_cls(logits.flatten(0, 1), t.labels.flatten(), reduction_override='none')
        loss_cls = loss_cls.reshape(*t.labels.shape, -1).sum(-1) * t.label_weights
        kept = t.pos | hard_negatives(loss_cls, t.pos, (t.label_weights > 0) & ~t.pos, self.neg_pos_ratio)
        pred, target = self._box_pairs(deltas, anchors, t)
        offsets, known = self._landmark_targets(batch_gt_instances, anchors, t)
        sizes, factor = t.level_sizes, t.avg_factor
        return dict(
            loss_cls=(loss_cls * kept).sum() / factor,
            loss_bbox=self._loss(self.loss_bbox, sizes, pred, target, t.bbox_weights, avg_factor=factor),
            loss_landmark=self._loss(self.loss_landmark, sizes, landmarks, offsets, known, avg_factor=factor),
        )

    def _landmark_targets(self, gt_instances, anchors: Tensor, targets: DenseTargets) -> tuple[Tensor, Tensor]:
        """Offsets and weights ``(B, P, 2 * N)``; weight 0 off the positives and where a landmark is not annotated."""
        points = pad_batch([instances.keypoints.flatten(1) for instances in gt_instances])
        seen = pad_batch([instances.keypoints_visible for instances in gt_instances]).repeat_interleave(2, -1)
        index = (targets.gt_inds - 1).clamp(min=0)[..., None].expand(-1, -1, self.landmark_dim)
        known = (seen.gather(1, index) > 0) & targets.pos[..., None]
        offsets = self.landmark_coder.encode(anchors, points.gather(1, index).unflatten(-1, (-1, 2)))
        return torch.where(known, offsets, 0.0), known.to(offsets.dtype)

    @in_float32
    def predict_by_feat(  # type: ignore[override]  # a third output, as in 3.x
        self,
        cls_scores,
        bbox_preds,
        landmark_preds,
        batch_img_metas=None,
        cfg=None,
        rescale: bool = False,
        with_nms: bool = True,
    ):
        # Landmarks travel through the shared path as further columns of the box predictions.
        joined = [
            torch.cat([box.unflatten(1, (-1, 4)), point.unflatten(1, (-1, self.landmark_dim))], 2).flatten(1, 2)
            for box, point in zip(bbox_preds, landmark_preds)
        ]
        return super().predict_by_feat(
            cls_scores, joined, None, batch_img_metas, cfg=cfg, rescale=rescale, with_nms=with_nms
        )

    def _decode(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> dict:
        boxes, offsets = preds.split([self.reg_dim, self.landmark_dim], -1)
        points = self.landmark_coder.decode(priors, offsets)  # (B, K, N, 2)
        return dict(bboxes=self._decode_boxes(priors, boxes, sizes, shapes), keypoints=points)
