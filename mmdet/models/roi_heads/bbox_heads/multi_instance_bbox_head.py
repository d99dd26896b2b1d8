"""A set of boxes for each region (CrowdDet, arXiv:2003.09163).

Letters: K regions, M = 2 instances of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Proposals,
    RoISamples,
    by_batch,
    empty_instances,
    fixed_instances,
    image_shapes,
    in_float32,
    rescaled_fields,
)
from mmdet.models.layers import build_linear_layer
from mmdet.models.task_modules.samplers.multi_instance_sampling_result import InstanceSets, as_sets
from mmdet.ops.fixed_nms import NONE, fixed_nms, greedy_decay
from mmdet.ops.fixed_size import fixed_options, is_fixed_size
from mmdet.ops.padded_nms import unbeaten
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor, scale_boxes
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from mmdet.utils import InstanceList

from .bbox_head import Targets
from .convfc_bbox_head import ConvFCBBoxHead


@MODELS.register_module()
class MultiInstanceBBoxHead(ConvFCBBoxHead):
    """Two predictions of every region, matched as a set with its two ground truths (Sec. 3.2).

    It knows one class of objects, whose score is the second of two; background is the first.

    Args:
        num_instance: 2; the loss tries both orders of two.
        with_refine: Whether a further layer looks at the features together with the predictions (Sec. 3.2, RM).
    """

    def __init__(
        self,
        num_instance: int = 2,
        with_refine: bool = False,
        num_shared_convs: int = 0,
        num_shared_fcs: int = 2,
        num_cls_convs: int = 0,
        num_cls_fcs: int = 0,
        num_reg_convs: int = 0,
        num_reg_fcs: int = 0,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
        init_cfg=None,
        *args,
        **kwargs,
    ) -> None:
        if num_instance != 2:
            raise UserValueError(
                f'num_instance must be 2, the size of the sets that the loss compares, not {num_instance}'
            )
        if with_refine and num_shared_fcs == 0:
            raise UserValueError('with_refine looks at vectors, so num_shared_fcs must be at least 1')
        super().__init__(
            num_shared_convs,
            num_shared_fcs,
            num_cls_convs,
            num_cls_fcs,
            num_reg_convs,
            num_reg_fcs,
            conv_out_channels,
            fc_out_channels,
            None,
            None,
            init_cfg,
            *args,
            **kwargs,
        )
        self.num_instance, self.with_refine = num_instance, with_refine
        if self.reg_decoded_bbox:
            raise UserValueError('the sets of MultiInstanceBBoxHead are compared by their deltas, not reg_decoded_bbox')
        self.cls_convs, self.cls_fcs = self._branches(num_cls_convs, num_cls_fcs)
        self.reg_convs, self.reg_fcs = self._branches(num_reg_convs, num_reg_fcs)
        self.fc_cls, self.fc_reg = self._predictors(self.cls_last_dim, self.reg_last_dim)
        if with_refine:
            self.shared_fcs_ref = nn.Linear(self.shared_out_channels + 4 * (self.reg_channels + 1), fc_out_channels)
            self.fc_cls_ref, self.fc_reg_ref = self._predictors(fc_out_channels, fc_out_channels)

    def _branches(self, num_convs: int, num_fcs: int) -> tuple[nn.ModuleList, nn.ModuleList]:
        convs, fcs = nn.ModuleList(), nn.ModuleList()
        for _ in range(self.num_instance):
            own_convs, own_fcs, _ = self._add_conv_fc_branch(num_convs, num_fcs, self.shared_out_channels)
            convs.append(own_convs)
            fcs.append(own_fcs)
        return convs, fcs

    def _predictors(self, cls_width: int, reg_width: int) -> tuple[nn.ModuleList, nn.ModuleList]:
        scores, boxes = nn.ModuleList(), nn.ModuleList()
        for _ in range(self.num_instance):
            scores.append(
                build_linear_layer(self.cls_predictor_cfg, in_features=cls_width, out_features=self.cls_channels)
            )
            boxes.append(
                build_linear_layer(self.reg_predictor_cfg, in_features=reg_width, out_features=self.reg_channels)
            )
        return scores, boxes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # sets, and maybe refined ones
        """Scores ``(K, M * 2)`` and box predictions ``(K, M * 4)``; with ``with_refine`` the refined ones too."""
        x = self._forward_shared(x)
        cls_layers: Any = zip(self.fc_cls, self.cls_convs, self.cls_fcs)
        reg_layers: Any = zip(self.fc_reg, self.reg_convs, self.reg_fcs)
        scores, boxes = ([fc(self._branch(x, *parts)) for fc, *parts in layers] for layers in (cls_layers, reg_layers))
        outs = [scores, boxes]
        if self.with_refine:
            seen = [torch.cat([box, score.softmax(-1)[:, 1:2]], 1).repeat(1, 4) for score, box in zip(scores, boxes)]
            refined = [self.relu(self.shared_fcs_ref(torch.cat([x, part], 1))) for part in seen]
            outs += [[fc(feats) for fc, feats in zip(fcs, refined)] for fcs in (self.fc_cls_ref, self.fc_reg_ref)]
        return tuple(torch.cat(parts, 1) for parts in outs)

    @by_batch
    def get_targets(
        self, sampling_results: RoISamples | Sequence, rcnn_train_cfg: ConfigDict, concat: bool = True
    ) -> Targets | tuple[Tensor | list[Tensor], ...]:
        """Labels and their weights ``(K, M)``, box targets and their weights ``(K, M * 4)``, of the regions of all
        images or, if not ``concat``, of each. Labels are those of :class:`InstanceSets`."""
        samples = sampling_results if isinstance(sampling_results, InstanceSets) else as_sets(sampling_results)
        valid, boxes, labels = samples.valid, samples.boxes[:, :, None], samples.instance_labels
        own = torch.where((labels > 0)[..., None], samples.instance_boxes, boxes)
        deltas = self.bbox_coder.encode(boxes.expand_as(own).reshape(-1, 4), own.reshape(-1, 4)).view_as(own).flatten(2)
        weights = valid[..., None].expand_as(labels).to(deltas.dtype)
        slots = (labels, weights, deltas, torch.ones_like(deltas))
        if not concat:
            return tuple([image[used] for image, used in zip(column, valid)] for column in slots)
        return tuple(samples.pack(column) for column in slots)

    def loss(  # type: ignore[override]  # takes the further arguments of others as keywords
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        **kwargs,
    ) -> dict:
        """``loss_rcnn_emd``: the mean over regions of the better of both orders (Eq. 4 and 5)."""
        scores, boxes = cls_score.chunk(2, 1), bbox_pred.chunk(2, 1)
        orders = [
            self.emd_loss(boxes[first], scores[first], boxes[1 - first], scores[1 - first], bbox_targets, labels)
            for first in (0, 1)
        ]
        used = label_weights[:, 0] > 0
        least = torch.cat(orders, 1).min(1).values
        return dict(loss_rcnn_emd=(least * used).sum() / used.sum().clamp(min=1))

    def emd_loss(
        self,
        bbox_pred_0: Tensor,
        cls_score_0: Tensor,
        bbox_pred_1: Tensor,
        cls_score_1: Tensor,
        targets: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """``(K, 1)`` loss of two predictions in the order of the two targets. An ignored target counts as background,
        as in MMDetection 3.x."""
        scores = torch.stack([cls_score_0, cls_score_1], 1).flatten(0, 1)
        pred, labels = torch.stack([bbox_pred_0, bbox_pred_1], 1).flatten(0, 1), labels.flatten().long()
        pos, pred = labels > 0, self._pred_of_label(pred, labels - 1)
        target = torch.where(pos[:, None], targets.reshape(-1, 4), pred.detach())
        loss_bbox = self.loss_bbox(pred, target, reduction_override='none').sum(1)
        loss_cls = self.loss_cls(scores, labels.clamp(min=0), reduction_override='none')
        return (loss_cls + loss_bbox * pos).view(-1, 2).sum(1, keepdim=True)

    def predicts_batch(self, proposals: Proposals | InstanceList, rcnn_test_cfg: ConfigDict | None) -> bool:
        return is_fixed_size()  # else sets are suppressed image by image

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
        """Of padded proposals ``(B, N)``; suppression as of :meth:`set_nms`, in a fixed number of rounds."""
        shape, each = valid.shape, self.num_instance
        scores = torch.cat(list(cls_scores)).unflatten(0, shape).unflatten(2, (each, -1)).softmax(-1)[..., 1]
        scores = torch.where(valid[..., None] & (scores > rcnn_test_cfg.score_thr), scores, NONE).flatten(1)  # (B, K)
        deltas = torch.cat(list(bbox_preds)).unflatten(0, shape).unflatten(2, (each, -1)).flatten(1, 2)
        regions = torch.cat(list(rois)).unflatten(0, shape)[..., 1:].repeat_interleave(each, 1)
        boxes = get_box_tensor(self.bbox_coder.decode(regions, deltas, max_shape=image_shapes(batch_img_metas)))
        fields = dict(bboxes=boxes)
        if rescale:
            fields.update(rescaled_fields(fields, batch_img_metas))
        region = (torch.arange(scores.shape[1], device=boxes.device) // each).expand_as(scores)
        limit = rcnn_test_cfg.max_per_img if rcnn_test_cfg.max_per_img > 0 else fixed_options().max_num
        decay = greedy_decay(rcnn_test_cfg.nms['iou_threshold'])
        index, found = fixed_nms(fields['bboxes'], scores, region, limit, decay, within=False)
        boxes = fields['bboxes'].gather(1, index[..., None].expand(-1, -1, 4))
        fields = dict(bboxes=boxes, scores=found, labels=torch.zeros_like(index))
        return [fixed_instances(fields, (found > NONE).sum(1))]

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
        results = InstanceData()
        if len(roi) == 0:
            return empty_instances([img_meta], roi.device, 'bbox', [results], num_classes=self.num_classes)[0]
        assert bbox_pred is not None, 'sets are made of boxes'
        scores = cls_score.reshape(-1, self.num_classes + 1).softmax(-1)
        rois = roi[:, 1:].repeat_interleave(self.num_instance, 0)
        shape = tuple(img_meta['img_shape'][:2])
        bboxes = get_box_tensor(self.bbox_coder.decode(rois, bbox_pred.reshape(len(rois), -1), max_shape=shape))
        if rescale:
            bboxes = scale_boxes(bboxes, [1 / s for s in img_meta['scale_factor']])
        if rcnn_test_cfg is None:
            results.bboxes, results.scores = bboxes, scores
            return results
        region = torch.arange(len(rois), device=bboxes.device) // self.num_instance
        cfg = rcnn_test_cfg
        found, results.scores = self.set_nms(
            torch.cat([bboxes, region[:, None]], 1),
            scores[:, 1],
            cfg.score_thr,
            cfg.nms['iou_threshold'],
            cfg.max_per_img,
        )
        results.bboxes, results.labels = found[:, :-1], torch.zeros_like(results.scores, dtype=torch.long)
        return results

    @staticmethod
    def set_nms(
        bboxes: Tensor, scores: Tensor, score_thr: float, iou_threshold: float, max_num: int = -1
    ) -> tuple[Tensor, Tensor]:
        """Greedy suppression that spares boxes of the same region (Sec. 3.3).

        Args:
            bboxes: ``(n, 5)``: box and region.

        Returns:
            The kept rows and their scores, best first.
        """
        above = scores > score_thr
        scores, order = scores[above].sort(descending=True, stable=True)
        bboxes = bboxes[above][order]
        beats = bbox_overlaps(bboxes[:, :4], bboxes[:, :4]) > iou_threshold
        beats &= bboxes[:, None, 4] != bboxes[None, :, 4]
        keep = unbeaten(beats[None], torch.ones_like(scores, dtype=torch.bool)[None])[0]
        limit = max_num if max_num > 0 else len(keep)
        return bboxes[keep][:limit], scores[keep][:limit]
