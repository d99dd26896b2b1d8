"""Soft Teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmdet.models.core import (
    filter_gt_instances,
    homographies,
    image_shapes,
    jittered,
    keep_instances,
    pad_batch,
    project_boxes,
    relative_spread,
    rename_loss_dict,
    reweight_loss_dict,
    with_image,
)
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from .semi_base import SemiBaseDetector
from .two_stage import class_agnostic


@MODELS.register_module()
class SoftTeacher(SemiBaseDetector):
    """`End-to-End Semi-Supervised Object Detection with Soft Teacher <https://arxiv.org/abs/2106.09018>`_

    For detectors of two stages with one box head.

    Args:
        semi_train_cfg: Besides that of the base: ``pseudo_label_initial_score_thr``, which all pseudo labels are above;
            ``rpn_pseudo_thr`` and ``cls_pseudo_thr`` of the score, for proposals and classes; ``reg_pseudo_thr`` of the
            spread of a box under ``jitter_times`` jitters of ``jitter_scale``, below which it is trained on.
    """

    def __init__(
        self,
        detector: ConfigType,
        semi_train_cfg: OptConfigType = None,
        semi_test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(detector, semi_train_cfg, semi_test_cfg, data_preprocessor, init_cfg)

    def loss_by_pseudo_instances(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, batch_info: dict | None = None
    ) -> dict:
        """Losses of pictures with pseudo labels, chosen anew for each loss, times ``unsup_weight``.

        Args:
            batch_info: Of :meth:`get_pseudo_instances`.
        """
        assert batch_info is not None
        x = self.student.extract_feat(batch_inputs)
        losses, proposals = self.rpn_loss_by_pseudo_instances(x, batch_data_samples)
        losses.update(self.rcnn_cls_loss_by_pseudo_instances(x, proposals, batch_data_samples, batch_info))
        losses.update(self.rcnn_reg_loss_by_pseudo_instances(x, proposals, batch_data_samples))
        weight = self.semi_train_cfg.get('unsup_weight', 1.0)
        return rename_loss_dict('unsup_', reweight_loss_dict(losses, weight))

    @torch.no_grad()
    def get_pseudo_instances(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple[SampleList, dict]:
        """As the base's, with the spread ``reg_uncs (n,)`` of each box.

        The second value has the teacher's ``feat``, and ``img_shape``, ``homography_matrix`` and ``metainfo`` by image.
        """
        self.teacher.eval()
        x = self.teacher.extract_feat(batch_inputs)
        proposals = self.teacher._proposals(x, batch_data_samples)
        found = self.teacher.roi_head.predict(x, proposals, batch_data_samples, rescale=False)
        for sample, instances in zip(batch_data_samples, found):
            sample.gt_instances = instances
        filter_gt_instances(batch_data_samples, score_thr=self.semi_train_cfg.pseudo_label_initial_score_thr)
        spreads = self.compute_uncertainty_with_aug(x, batch_data_samples)
        for sample, spread in zip(batch_data_samples, spreads):
            sample.gt_instances.reg_uncs = spread
        metas = [sample.metainfo for sample in batch_data_samples]
        batch_info = dict(
            feat=x,
            img_shape=[meta['img_shape'] for meta in metas],
            homography_matrix=homographies(metas).to(x[0].device, torch.float32),
            metainfo=metas,
        )
        return self._to_loaded_pictures(batch_data_samples), batch_info

    def rpn_loss_by_pseudo_instances(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> tuple:
        """Losses of the first stage, and its proposals."""
        student = self.student
        samples = filter_gt_instances(_shallow(batch_data_samples), score_thr=self.semi_train_cfg.rpn_pseudo_thr)
        proposal_cfg = student.train_cfg.get('rpn_proposal', student.test_cfg.rpn)
        losses, proposals = student.rpn_head.loss_and_predict(x, class_agnostic(samples), proposal_cfg=proposal_cfg)
        return {name if 'rpn' in name else f'rpn_{name}': loss for name, loss in losses.items()}, proposals

    def rcnn_cls_loss_by_pseudo_instances(
        self,
        x: tuple[Tensor, ...],
        unsup_rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        batch_info: dict,
    ) -> dict:
        """``loss_cls`` in which negatives weigh as much as the teacher believes in background there (Eq. 2, 3)."""
        samples = filter_gt_instances(_shallow(batch_data_samples), score_thr=self.semi_train_cfg.cls_pseudo_thr)
        head = self.student.roi_head
        gt = head.ground_truths(samples)
        regions = head.sample(head.bbox_assigner, head.bbox_sampler, unsup_rpn_results_list, gt, x)
        labels, weights, *boxes = head.bbox_head.get_targets(regions, head.train_cfg)
        background = self._background_scores(regions, batch_data_samples, batch_info)
        weights = torch.where(labels == head.bbox_head.num_classes, weights * background, weights)
        rois = regions.rois
        outs = head._bbox_forward(x, rois)
        losses = head.bbox_head.loss(outs['cls_score'], None, rois, labels, weights, *boxes)
        losses['loss_cls'] = losses['loss_cls'] * regions.valid.sum() / weights.sum().clamp(min=1)
        return losses

    @torch.no_grad()
    def _background_scores(self, regions: Any, samples: SampleList, batch_info: dict) -> Tensor:
        """The teacher's, for the rows of the student's regions."""
        to_student = homographies([sample.metainfo for sample in samples])
        matrices = homographies(batch_info['metainfo']) @ torch.linalg.inv(to_student)
        boxes = project_boxes(regions.boxes, matrices, batch_info['img_shape'])
        head = self.teacher.roi_head
        outs = head._bbox_forward(batch_info['feat'], regions.pack(with_image(boxes)))
        return head.bbox_head.activate(outs['cls_score'])[:, -1]

    def rcnn_reg_loss_by_pseudo_instances(
        self, x: tuple[Tensor, ...], unsup_rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """``loss_bbox`` of the boxes that stay put under jitter (Eq. 5-8)."""
        spreads = [sample.gt_instances.reg_uncs for sample in batch_data_samples]
        samples = keep_instances(
            _shallow(batch_data_samples), [spread < self.semi_train_cfg.reg_pseudo_thr for spread in spreads]
        )
        losses = self.student.roi_head.loss(x, unsup_rpn_results_list, samples)
        return dict(loss_bbox=losses['loss_bbox'])

    def compute_uncertainty_with_aug(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> list[Tensor]:
        """Spread ``(n,)`` of each picture's boxes: how far apart the teacher moves their jittered copies, in sides."""
        cfg = self.semi_train_cfg
        copies = self.aug_box(batch_data_samples, cfg.jitter_times, cfg.jitter_scale)
        boxes = pad_batch([image.transpose(0, 1) for image in copies])  # (B, G, T, 4)
        labels = pad_batch([sample.gt_instances.labels for sample in batch_data_samples])
        labels = labels[..., None].expand(-1, -1, boxes.shape[2])
        flat, roi_head = boxes.flatten(1, 2), self.teacher.roi_head
        pred = roi_head._bbox_forward(x, with_image(flat).flatten(0, 1))['bbox_pred']
        pred = roi_head.bbox_head._pred_of_label(pred.float(), labels.flatten()).view_as(flat)
        shapes = image_shapes([sample.metainfo for sample in batch_data_samples])
        moved = get_box_tensor(roi_head.bbox_head.bbox_coder.decode(flat, pred, max_shape=shapes))
        spread = relative_spread(moved.view_as(boxes))
        return [row[: len(sample.gt_instances)] for row, sample in zip(spread, batch_data_samples)]

    @staticmethod
    def aug_box(batch_data_samples: SampleList, times: int, frac: float) -> list[Tensor]:
        """``(times, n, 4)`` jittered copies of the boxes of each picture."""
        return [jittered(sample.gt_instances.bboxes, times, frac) for sample in batch_data_samples]


def _shallow(samples: SampleList) -> SampleList:
    """Samples whose ground truths can be replaced without changing those of the given ones."""
    return [sample.new() for sample in samples]
