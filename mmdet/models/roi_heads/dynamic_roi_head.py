from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, PaddedGT, Proposals, RoISamples, by_batch
from mmdet.models.losses import SmoothL1Loss
from mmdet.registry import MODELS

from .standard_roi_head import StandardRoIHead

EPS = 1e-15


@MODELS.register_module()
class DynamicRoIHead(StandardRoIHead):
    """The IoU threshold and the beta of the box loss follow the proposals (Dynamic R-CNN, arXiv:2004.06002, Alg. 1).

    The statistics of ``update_iter_interval`` iterations stay on the device until they are used.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.bbox_head.loss_bbox, SmoothL1Loss):
            raise UserValueError(
                f'loss_bbox must be SmoothL1Loss, whose beta is adapted, not {self.bbox_head.loss_bbox}'
            )
        self.iou_history: list[Tensor] = []
        self.beta_history: list[Tensor] = []

    def loss(self, x: tuple[Tensor, ...], rpn_results_list, batch_data_samples) -> dict:
        losses = super().loss(x, rpn_results_list, batch_data_samples)
        if len(self.iou_history) % self.train_cfg.dynamic_rcnn.update_iter_interval == 0:
            self.update_hyperparameters()
        return losses

    def assign(self, assigner, proposals: Proposals, gt: PaddedGT) -> Assignment:
        assignment = super().assign(assigner, proposals, gt)
        overlaps = torch.where(proposals.valid, assignment.quality, -1.0)
        top = overlaps.topk(min(self.train_cfg.dynamic_rcnn.iou_topk, overlaps.shape[1]), 1).values
        # The iou_topk-th highest overlap of each image, or the lowest of one with fewer proposals.
        lowest = torch.where(top >= 0, top, torch.inf).amin(1)
        self.iou_history.append(torch.where(lowest.isfinite(), lowest, 0.0).mean())
        return assignment

    @by_batch
    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: RoISamples | Sequence) -> dict:
        outs = super().bbox_loss(x, sampling_results)
        _, _, targets, weights = outs['bbox_targets']
        pos = weights[:, 0] > 0
        error = torch.where(pos, targets[:, :2].abs().mean(1), torch.inf).sort().values
        place = min(self.train_cfg.dynamic_rcnn.beta_topk * len(sampling_results), max(len(error), 1)) - 1
        last = (pos.sum() - 1).clamp(0, place)
        if len(error):
            self.beta_history.append(error.gather(0, last[None])[0].detach())  # infinite where there was no positive
        return outs

    def running_state(self) -> dict:
        """What a resumed run needs beside the weights."""
        return dict(
            iou_history=list(self.iou_history),
            beta_history=list(self.beta_history),
            threshold=self.bbox_assigner.pos_iou_thr,
            beta=self.bbox_head.loss_bbox.beta,
        )

    def load_running_state(self, state: dict) -> None:
        """Continue with what :meth:`running_state` gave."""
        device = self.bbox_head.fc_cls.weight.device
        self.iou_history = [value.to(device) for value in state['iou_history']]
        self.beta_history = [value.to(device) for value in state['beta_history']]
        self._set(state['threshold'], state['beta'])

    def _set(self, threshold: float, beta: float) -> None:
        assigner = self.bbox_assigner
        assigner.pos_iou_thr = assigner.neg_iou_thr = assigner.min_pos_iou = threshold
        self.bbox_head.loss_bbox.beta = beta

    def update_hyperparameters(self) -> tuple[float, float]:
        """Set the threshold to the mean of the overlaps and beta to the median of the errors since the last update."""
        cfg = self.train_cfg.dynamic_rcnn
        threshold = max(cfg.initial_iou, float(torch.stack(self.iou_history).mean()))
        self.iou_history = []
        errors = torch.stack(self.beta_history).cpu() if self.beta_history else torch.zeros(0)
        errors = errors[errors.isfinite()]
        self.beta_history = []
        beta = self.bbox_head.loss_bbox.beta
        if len(errors) and (median := float(errors.double().quantile(0.5))) >= EPS:
            beta = min(cfg.initial_beta, median)
        self._set(threshold, beta)
        return threshold, beta
