from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdet.models.core import RoISamples, by_batch
from mmdet.models.losses import carl_loss, isr_p
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS

from .standard_roi_head import StandardRoIHead

MANY = 2**20
"""More than the ground truths of an image."""


@MODELS.register_module()
class PISARoIHead(StandardRoIHead):
    """A second stage that learns most from prime samples (PISA, arXiv:1904.04821).

    ``train_cfg.isr`` and ``train_cfg.carl`` are the arguments of :func:`isr_p` and :func:`carl_loss`; a part that has
    none is left out. Weights of negatives are those that the sampler gives (``ScoreHLRSampler``).
    """

    def _bbox_loss_of(self, x: tuple[Tensor, ...], samples: RoISamples) -> dict:
        if hasattr(self.bbox_loss, 'by_batch'):
            return self.bbox_loss(x, samples)
        return self.bbox_loss(x, samples, neg_label_weights=[result.neg_label_weights for result in samples])

    @by_batch
    def bbox_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: RoISamples | Sequence,
        neg_label_weights: Sequence[Tensor | None] | None = None,
    ) -> dict:
        """Outputs of :meth:`_bbox_forward` with ``loss_bbox``, a dict of losses.

        Args:
            neg_label_weights: Of each image the weights of its negatives, which ``RoISamples`` have themselves.
        """
        samples = sampling_results
        if not isinstance(samples, RoISamples):
            for result, weights in zip(samples, neg_label_weights or ()):
                result.neg_label_weights = weights
            samples = as_samples(samples)
        rois = samples.rois
        outs, head = self._bbox_forward(x, rois), self.bbox_head
        scores, deltas = outs['cls_score'], outs['bbox_pred']
        labels, label_weights, *of_boxes = head.get_targets(samples, self.train_cfg)
        pos, used, gt_inds = samples.rows('pos', 'valid', 'gt_inds')
        if samples.neg_weights is not None:
            label_weights = torch.where(used & ~pos, samples.pack(samples.neg_weights), label_weights)
        targets = labels, label_weights, *of_boxes
        if self.train_cfg.get('isr') is not None:
            targets = isr_p(
                scores.detach(),
                deltas.detach(),
                targets,
                rois,
                (),
                head.loss_cls,
                head.bbox_coder,
                **self.train_cfg['isr'],
                num_class=head.num_classes,
                gt_inds=gt_inds + MANY * rois[:, 0].long(),
            )
        losses = head.loss(scores, deltas, rois, *targets)
        if self.train_cfg.get('carl') is not None:
            losses.update(
                carl_loss(
                    scores,
                    labels,
                    deltas,
                    of_boxes[0],
                    head.loss_bbox,
                    **self.train_cfg['carl'],
                    avg_factor=used.sum().clamp(min=1),
                    num_class=head.num_classes,
                )
            )
        outs.update(loss_bbox=losses)
        return outs
