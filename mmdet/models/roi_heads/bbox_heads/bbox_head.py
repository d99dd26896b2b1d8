"""Classes and boxes of regions.

Letters: B images, S slots, K = B * S regions, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Proposals,
    RoISamples,
    batches_images,
    by_batch,
    empty_instances,
    greedy_options,
    image_shapes,
    in_float32,
    of_label,
    rescaled_fields,
    split_images,
    stable_topk,
    suppressed,
)
from mmdet.models.layers import build_linear_layer
from mmdet.models.losses.accuracy import accuracy
from mmdet.models.task_modules.coders import clamp_boxes
from mmdet.models.task_modules.joints import as_samples
from mmdet.ops.fixed_size import fixed_options, is_fixed_size
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import get_box_tensor, scale_boxes
from mmdet.utils import ConfigType, InstanceList, OptMultiConfig

from ..joints import targets_of_images

Targets = tuple[Tensor, Tensor, Tensor, Tensor]


@MODELS.register_module()
class BBoxHead(BaseModule):
    """One fully connected layer for classes and one for boxes (Fast R-CNN, Sec. 2).

    Args:
        with_avg_pool: Whether features are averaged over the region first.
        reg_class_agnostic: Whether one box serves all classes.
        reg_decoded_bbox: Whether the box loss compares boxes rather than deltas.
        cls_predictor_cfg, reg_predictor_cfg: Layers of the predictors, such as ``NormedLinear``.
    """

    target_fields: tuple[str, ...] = ('pos_priors', 'neg_priors', 'pos_gt_bboxes', 'pos_gt_labels')
    """What :meth:`_get_targets_single` takes of the samples of an image."""

    room: int = 1024
    """How many candidates of an image :meth:`predict_batch` expects at most; grows with the images."""

    def __init__(
        self,
        with_avg_pool: bool = False,
        with_cls: bool = True,
        with_reg: bool = True,
        roi_feat_size: int | tuple[int, int] = 7,
        in_channels: int = 256,
        num_classes: int = 80,
        bbox_coder: ConfigType = dict(
            type='DeltaXYWHBBoxCoder',
            clip_border=True,
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        predict_box_type: str = 'hbox',
        reg_class_agnostic: bool = False,
        reg_decoded_bbox: bool = False,
        reg_predictor_cfg: ConfigType = dict(type='Linear'),
        cls_predictor_cfg: ConfigType = dict(type='Linear'),
        loss_cls: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not (with_cls or with_reg):
            raise UserValueError('a box head needs with_cls, with_reg or both')
        self.with_avg_pool, self.with_cls, self.with_reg = with_avg_pool, with_cls, with_reg
        self.roi_feat_size = _pair(roi_feat_size)
        self.roi_feat_area = self.roi_feat_size[0] * self.roi_feat_size[1]
        self.in_channels, self.num_classes = in_channels, num_classes
        self.predict_box_type = predict_box_type
        self.reg_class_agnostic, self.reg_decoded_bbox = reg_class_agnostic, reg_decoded_bbox
        self.reg_predictor_cfg, self.cls_predictor_cfg = reg_predictor_cfg, cls_predictor_cfg
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.loss_cls, self.loss_bbox = MODELS.build(loss_cls), MODELS.build(loss_bbox)
        channels = in_channels
        if with_avg_pool:
            self.avg_pool = nn.AvgPool2d(self.roi_feat_size)
        else:
            channels *= self.roi_feat_area
        if with_cls:
            self.fc_cls = build_linear_layer(cls_predictor_cfg, in_features=channels, out_features=self.cls_channels)
        if with_reg:
            self.fc_reg = build_linear_layer(reg_predictor_cfg, in_features=channels, out_features=self.reg_channels)
        if init_cfg is None:
            self.init_cfg = []
            if with_cls:
                self.init_cfg.append(dict(type='Normal', std=0.01, override=dict(name='fc_cls')))
            if with_reg:
                self.init_cfg.append(dict(type='Normal', std=0.001, override=dict(name='fc_reg')))

    @property
    def cls_channels(self) -> int:
        """Classes and background, or what the loss asks for."""
        return self.loss_cls.get_cls_channels(self.num_classes) if self.custom_cls_channels else self.num_classes + 1

    @property
    def reg_channels(self) -> int:
        """Numbers of a box, times C unless the boxes are class agnostic."""
        return self.bbox_coder.encode_size * (1 if self.reg_class_agnostic else self.num_classes)

    @property
    def custom_cls_channels(self) -> bool:
        """Whether the loss for classes decides how many channels there are (seesaw, EQL v2)."""
        return getattr(self.loss_cls, 'custom_cls_channels', False)

    @property
    def custom_activation(self) -> bool:
        """Whether the loss for classes makes scores of the logits by ``get_activation``."""
        return getattr(self.loss_cls, 'custom_activation', False)

    @property
    def custom_accuracy(self) -> bool:
        """Whether the loss for classes counts hits by ``get_accuracy``."""
        return getattr(self.loss_cls, 'custom_accuracy', False)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Class scores ``(K, C + 1)`` and box predictions ``(K, 4 * C)`` or ``(K, 4)`` of features ``(K, c, h, w)``."""
        x = x.mean(dim=(-1, -2)) if self.with_avg_pool and x.dim() > 2 else x.flatten(1)
        return self.fc_cls(x) if self.with_cls else None, self.fc_reg(x) if self.with_reg else None

    @by_batch
    def _get_targets_single(
        self,
        pos_priors: Tensor,
        neg_priors: Tensor,
        pos_gt_bboxes: Tensor,
        pos_gt_labels: Tensor,
        cfg: ConfigDict,
    ) -> Targets:
        """Targets of one image, positives first."""
        return self._targets(*image_rows(pos_priors, neg_priors, pos_gt_bboxes, pos_gt_labels), cfg)

    def _targets(
        self, boxes: Tensor, gt_boxes: Tensor, gt_labels: Tensor, pos: Tensor, valid: Tensor, cfg: ConfigDict
    ) -> Targets:
        """Labels, label weights, box targets and box weights of ``(K, ...)`` regions."""
        inside = pos[:, None]
        target = torch.where(inside, gt_boxes, boxes)
        if not self.reg_decoded_bbox:
            target = torch.where(inside, self.bbox_coder.encode(boxes, target), 0.0)
        labels, weights = self._class_targets(gt_labels, pos, valid.to(boxes.dtype), cfg)
        return labels, weights, target, inside.to(boxes.dtype).expand(-1, target.shape[1])

    def _class_targets(
        self, gt_labels: Tensor, pos: Tensor, weights: Tensor, cfg: ConfigDict | None
    ) -> tuple[Tensor, Tensor]:
        """Labels and label weights ``(K,)``; ``weights`` are those without a weight of positives."""
        pos_weight = cfg.get('pos_weight', -1) if cfg is not None else -1
        if pos_weight > 0:
            weights = torch.where(pos, pos_weight, weights)
        return torch.where(pos, gt_labels, self.num_classes), weights

    @by_batch
    def get_targets(
        self, sampling_results: RoISamples | Sequence, rcnn_train_cfg: ConfigDict, concat: bool = True
    ) -> Targets | tuple[Tensor | list[Tensor], ...]:
        """Targets of all regions, in the order of their RoIs; of each image, if not ``concat``."""
        if not concat or not hasattr(self._get_targets_single, 'by_batch'):
            return targets_of_images(self, sampling_results, rcnn_train_cfg, concat)
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        boxes, gt_boxes, gt_labels, pos, valid = samples.rows('boxes', 'gt_boxes', 'gt_labels', 'pos', 'valid')
        return self._targets(boxes, gt_boxes, gt_labels, pos, valid, rcnn_train_cfg)

    @by_batch
    def loss_and_target(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        sampling_results: RoISamples | Sequence,
        rcnn_train_cfg: ConfigDict,
        concat: bool = True,
        reduction_override: str | None = None,
    ) -> dict:
        """``loss_bbox``, a dict of losses, and ``bbox_targets``."""
        targets: Targets = self.get_targets(sampling_results, rcnn_train_cfg, concat=concat)
        losses = self.loss(cls_score, bbox_pred, rois, *targets, reduction_override=reduction_override)
        return dict(loss_bbox=losses, bbox_targets=targets)

    def loss(
        self,
        cls_score: Tensor | None,
        bbox_pred: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        reduction_override: str | None = None,
    ) -> dict:
        """``loss_cls``, ``acc`` and ``loss_bbox``; regions of label weight 0 do not count."""
        losses: dict = {}
        valid = label_weights > 0
        count = valid.sum().clamp(min=1).float()
        if cls_score is not None:
            loss_cls = self.loss_cls(
                cls_score, labels, label_weights, avg_factor=count, reduction_override=reduction_override
            )
            losses.update(loss_cls if isinstance(loss_cls, dict) else dict(loss_cls=loss_cls))
            if self.custom_activation:
                losses.update(self.loss_cls.get_accuracy(cls_score, labels))
            else:
                losses['acc'] = accuracy(cls_score, labels, mask=valid)
        if bbox_pred is not None:
            pred = self._pred_of_label(self._loss_boxes(rois, bbox_pred), labels)
            pos = (labels >= 0) & (labels < self.num_classes)
            target = torch.where(pos[:, None], bbox_targets, pred.detach())
            losses['loss_bbox'] = self.loss_bbox(
                pred,
                target,
                bbox_weights * pos[:, None],
                avg_factor=count,
                reduction_override=reduction_override,
            )
        return losses

    def _loss_boxes(self, rois: Tensor, bbox_pred: Tensor) -> Tensor:
        """What the box loss compares: deltas, or decoded boxes with ``reg_decoded_bbox``."""
        return get_box_tensor(self.bbox_coder.decode(rois[:, 1:], bbox_pred)) if self.reg_decoded_bbox else bbox_pred

    def _pred_of_label(self, pred: Tensor, labels: Tensor) -> Tensor:
        """``(K, 4)`` predictions of the labelled class out of ``(K, C * 4)``."""
        if self.reg_class_agnostic:
            return pred
        return of_label(pred.unflatten(1, (self.num_classes, -1)), labels.clamp(0, self.num_classes - 1))

    def predicts_batch(self, proposals: Proposals | InstanceList, rcnn_test_cfg: ConfigDict | None) -> bool:
        """Whether :meth:`predict_batch` serves: for padded proposals on a device that the host should not wait for."""
        return (
            isinstance(proposals, Proposals)
            and rcnn_test_cfg is not None
            and hasattr(self.predict_by_feat, 'by_batch')
            and hasattr(self._predict_by_feat_single, 'by_batch')
            and batches_images(proposals.boxes)
            and (is_fixed_size() or greedy_options(rcnn_test_cfg.nms) is not None)
        )

    @in_float32
    def predict_batch(
        self,
        rois: Sequence[Tensor],
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        valid: Tensor,
        batch_img_metas: list[dict],
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
    ) -> InstanceList:
        """:meth:`predict_by_feat` of all images at once. The host waits once, for the number of results.

        Candidates are pairs of RoI and class above ``score_thr``. How many there are is known no sooner, so that the
        device has room for :attr:`room` of them, and all is done again with more if that was too little.

        Args:
            rois, cls_scores, bbox_preds: Of each image equally many, N; ``valid (B, N)`` says which count.
        """
        boxes = torch.cat(list(rois)).unflatten(0, valid.shape)[..., 1:]
        scores = self.activate(torch.cat(list(cls_scores))).unflatten(0, valid.shape)
        shapes = image_shapes(batch_img_metas)
        preds, factors = _stacked(bbox_preds, valid.shape), None
        late = isinstance(preds, Tensor) and type(self)._decoded is BBoxHead._decoded and preds.shape[-1] % 4 == 0
        if not late:
            boxes, factors = self._decoded(boxes, preds, shapes)
        scores = scores[..., :-1].float().masked_fill(~valid[..., None], -1).flatten(1)  # (B, N * C)
        options = dict(rcnn_test_cfg.nms) if is_fixed_size() else greedy_options(rcnn_test_cfg.nms)
        groups = None if options.pop('class_agnostic', False) else 'labels'

        def results_of(top: Tensor, index: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            roi, labels = index // self.num_classes, index % self.num_classes
            if late:  # of the candidates alone
                found = self._decoded(_of_pairs(boxes, index, roi), _of_pairs(preds, index, roi), shapes)[0].float()
            else:
                found = _of_pairs(boxes.float(), index, roi)
            above = top > rcnn_test_cfg.score_thr
            fields = dict(bboxes=found, scores=top if factors is None else top * factors.gather(1, roi), labels=labels)
            if rescale:
                fields.update(rescaled_fields(fields, batch_img_metas))
            return suppressed(fields, above, dict(options), groups, rcnn_test_cfg.max_per_img)

        if is_fixed_size():
            return split_images(*results_of(*scores.topk(min(fixed_options().candidates, scores.shape[1]))))
        most = (scores > rcnn_test_cfg.score_thr).sum(1).max()
        while True:
            kept, counts = results_of(*stable_topk(scores, self.room))
            *each, needed = torch.cat([counts, most[None]]).tolist()
            if needed <= self.room:
                return split_images(kept, each)
            self.room = 1 << (needed - 1).bit_length()

    @by_batch
    @in_float32
    def predict_by_feat(
        self,
        rois: Sequence[Tensor],
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        batch_img_metas: list[dict],
        rcnn_test_cfg: ConfigDict | None = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image out of its RoIs ``(k, 5)``, scores ``(k, C + 1)`` and boxes ``(k, C * 4)``."""
        return [
            self._predict_by_feat_single(
                roi=rois[i],
                cls_score=cls_scores[i],
                bbox_pred=bbox_preds[i],
                img_meta=meta,
                rescale=rescale,
                rcnn_test_cfg=rcnn_test_cfg,
            )
            for i, meta in enumerate(batch_img_metas)
        ]

    @overload
    def activate(self, cls_score: Tensor | Sequence[Tensor]) -> Tensor: ...
    @overload
    def activate(self, cls_score: None) -> None: ...
    def activate(self, cls_score: Tensor | Sequence[Tensor] | None) -> Tensor | None:
        """Scores ``(k, C + 1)`` of logits; of several stages, those of their mean; None of None."""
        if cls_score is None:
            return None
        if not isinstance(cls_score, Tensor):
            cls_score = sum(cls_score[1:], cls_score[0]) / float(len(cls_score))
        return self.loss_cls.get_activation(cls_score) if self.custom_cls_channels else cls_score.softmax(-1)

    @by_batch
    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor | None,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: ConfigDict | None = None,
    ) -> InstanceData:
        """Detections of one image; without ``rcnn_test_cfg`` the boxes of all classes and their scores."""
        results = InstanceData()
        if len(roi) == 0:
            return empty_instances(
                [img_meta],
                roi.device,
                task_type='bbox',
                instance_results=[results],
                box_type=self.predict_box_type,
                num_classes=self.num_classes,
                score_per_cls=rcnn_test_cfg is None,
            )[0]
        scores = self.activate(cls_score)
        shape = img_meta['img_shape']
        bboxes, factors = self._decoded(roi[:, 1:], bbox_pred, None if shape is None else tuple(shape[:2]))
        if rescale:
            inverse = [1 / s for s in img_meta['scale_factor']]
            bboxes = scale_boxes(bboxes.view(-1, 4), inverse).view(len(roi), -1)
        if rcnn_test_cfg is None:
            results.bboxes, results.scores = bboxes, scores
            return results
        from mmdet.ops import multiclass_nms

        detections, labels = multiclass_nms(
            bboxes, scores, rcnn_test_cfg.score_thr, rcnn_test_cfg.nms, rcnn_test_cfg.max_per_img, factors
        )
        results.bboxes, results.scores, results.labels = detections[:, :4], detections[:, -1], labels
        return results

    def _decoded(self, boxes: Tensor, bbox_pred: Any, shapes: Any) -> tuple[Tensor, Tensor | None]:
        """Boxes of regions ``(..., 4)`` by their predictions, or as they are, and factors ``(...)`` of their scores.

        Args:
            shapes: Height and width of the picture, or of each picture; None to clip nothing.
        """
        if bbox_pred is None:
            return boxes.clone() if shapes is None else clamp_boxes(boxes, shapes), None
        return get_box_tensor(self.bbox_coder.decode(boxes, bbox_pred, max_shape=shapes)), None

    @by_batch
    @torch.no_grad()
    def refine_bboxes(
        self, sampling_results: RoISamples | Sequence, bbox_results: dict, batch_img_metas: list[dict]
    ) -> Proposals:
        """Regions moved by their predictions, for the next stage; ground truths among them are left out.

        Positives move by the box of their label, others by that of their best class.

        Args:
            bbox_results: ``rois``, ``cls_score``, ``bbox_pred`` and ``bbox_targets`` of the stage.
        """
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        labels, scores = bbox_results['bbox_targets'][0], self._scores(bbox_results['cls_score'])
        labels = torch.where(labels == self.num_classes, scores[:, :-1].argmax(1), labels)
        pred = samples.unpack(self._pred_of_label(bbox_results['bbox_pred'], labels))
        boxes = self.bbox_coder.decode(samples.boxes, pred, max_shape=image_shapes(batch_img_metas))
        return Proposals(get_box_tensor(boxes), samples.valid & ~samples.is_gt, [boxes.shape[1]])

    def _scores(self, cls_score: Tensor) -> Tensor:
        return self.loss_cls.get_activation(cls_score) if self.custom_activation else cls_score

    def regress_by_class(self, priors: Tensor, label: Tensor, bbox_pred: Tensor, img_meta: dict | None) -> Tensor:
        """Boxes ``(k, 4)`` of ``priors (k, 4)`` by the predictions of class ``label (k,)``, clipped to the picture."""
        shape = None if img_meta is None else tuple(img_meta['img_shape'][:2])
        return self.bbox_coder.decode(priors, self._pred_of_label(bbox_pred, label), max_shape=shape)


def _of_pairs(values: Tensor, index: Tensor, roi: Tensor) -> Tensor:
    """``(B, K, 4)`` of the pairs ``index (B, K)`` of RoI and class out of ``(B, N, C * 4)``; if C is 1, of the RoIs."""
    values = values.unflatten(-1, (-1, 4))
    place = index if values.shape[2] > 1 else roi
    return values.flatten(1, 2).gather(1, place[..., None].expand(-1, -1, 4))


def _stacked(preds: Sequence, shape: Sequence[int]) -> Any:
    """Predictions of each image ``(N, ...)``, or tuples of them, as ``(B, N, ...)``; None of None."""
    if preds[0] is None or isinstance(preds[0], Tensor):
        return None if preds[0] is None else torch.cat(list(preds)).unflatten(0, shape)
    return tuple(torch.cat(column).unflatten(0, shape) for column in zip(*preds))


def image_rows(
    pos_priors: Any, neg_priors: Any, pos_gt_bboxes: Any, pos_gt_labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Boxes, their ground truths' boxes and labels, and whether each is a positive and used: all rows of one image."""
    boxes = torch.cat([get_box_tensor(pos_priors), get_box_tensor(neg_priors)])
    pos = torch.arange(len(boxes), device=boxes.device) < len(pos_priors)
    gap = boxes.new_zeros(len(neg_priors), boxes.shape[1])
    labels = torch.cat([pos_gt_labels, pos_gt_labels.new_zeros(len(neg_priors))])
    return boxes, torch.cat([get_box_tensor(pos_gt_bboxes), gap]), labels, pos, torch.ones_like(pos)
