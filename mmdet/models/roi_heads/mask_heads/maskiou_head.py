"""How good a mask is (Mask Scoring R-CNN, arXiv:1903.00241). Letters: K regions, C classes, h and w of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.models.core import RoISamples, by_batch, in_float32, mask_shares, of_label
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptMultiConfig


@MODELS.register_module()
class MaskIoUHead(BaseModule):
    """Convolutions and fully connected layers over the features of a region and its mask, which predict its IoU."""

    def __init__(
        self,
        num_convs: int = 4,
        num_fcs: int = 2,
        roi_feat_size: int = 14,
        in_channels: int = 256,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
        num_classes: int = 80,
        loss_iou: ConfigType = dict(type='MSELoss', loss_weight=0.5),
        init_cfg: OptMultiConfig = [
            dict(type='Kaiming', override=dict(name='convs')),
            dict(type='Caffe2Xavier', override=dict(name='fcs')),
            dict(type='Normal', std=0.01, override=dict(name='fc_mask_iou')),
        ],
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels, self.conv_out_channels = in_channels, conv_out_channels
        self.fc_out_channels, self.num_classes = fc_out_channels, num_classes
        widths = [in_channels + 1] + [conv_out_channels] * num_convs  # the mask is one more channel
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if i == num_convs - 1 else 1, padding=1)
            for i in range(num_convs)
        )
        height, width = _pair(roi_feat_size)
        widths = [conv_out_channels * (height // 2) * (width // 2)] + [fc_out_channels] * num_fcs
        self.fcs = nn.ModuleList(nn.Linear(first, second) for first, second in zip(widths, widths[1:]))
        self.fc_mask_iou = nn.Linear(fc_out_channels, num_classes)
        self.relu, self.max_pool = nn.ReLU(), nn.MaxPool2d(2, 2)
        self.loss_iou = MODELS.build(loss_iou)

    def forward(self, mask_feat: Tensor, mask_preds: Tensor) -> Tensor:
        """IoUs ``(K, C)`` of features ``(K, c, h / 2, w / 2)`` and the logits ``(K, h, w)`` of one mask each."""
        x = torch.cat([mask_feat, self.max_pool(mask_preds.sigmoid()[:, None])], 1)
        for conv in self.convs:
            x = self.relu(conv(x))
        x = x.flatten(1)
        for fc in self.fcs:
            x = self.relu(fc(x))
        return self.fc_mask_iou(x)

    @by_batch
    def loss_and_target(
        self,
        mask_iou_pred: Tensor,
        mask_preds: Tensor,
        mask_targets: Tensor,
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """``loss_mask_iou`` of the masks that overlap their ground truth, and ``mask_iou_targets``.

        Args:
            mask_iou_pred: ``(K,)`` of the labelled class.
            mask_preds, mask_targets: ``(K, h, w)`` logits of the labelled class, and what they are taught.
        """
        targets = self.get_targets(sampling_results, batch_gt_instances, mask_preds, mask_targets, rcnn_train_cfg)
        pos = targets > 0
        target, count = torch.where(pos, targets, mask_iou_pred.detach()), pos.sum().clamp(min=1)
        loss = self.loss_iou(mask_iou_pred, target, pos.to(target.dtype), avg_factor=count)
        return dict(loss_mask_iou=loss, mask_iou_targets=targets)

    @by_batch
    def get_targets(
        self,
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        mask_preds: Tensor,
        mask_targets: Tensor,
        rcnn_train_cfg: ConfigDict,
    ) -> Tensor:
        """IoU ``(K,)`` of each predicted mask and the whole ground truth, of which the region may hold a part alone.

        A pixel is predicted where its logit is above ``mask_thr_binary``, as in 3.x.
        """
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        masks = [instances.masks for instances in batch_gt_instances]
        if hasattr(self._get_area_ratio, 'by_batch'):
            rois, inds = samples.positives.rois, samples.positives.rows('gt_inds')[0]
            shares = mask_shares(rois[:, 1:], rois[:, 0].long(), inds, masks)
        else:
            images = zip(samples, masks)
            shares = torch.cat([self._get_area_ratio(r.pos_priors, r.pos_assigned_gt_inds, m) for r, m in images])
        pred, target = (mask_preds > rcnn_train_cfg.mask_thr_binary).float(), mask_targets.float()
        overlap, area, full = ((pred * target).sum((1, 2)), pred.sum((1, 2)), target.sum((1, 2)) / (shares + 1e-7))
        union = area + full - overlap
        return torch.where(union > 0, overlap / torch.where(union > 0, union, 1.0), 0.0)

    @by_batch
    def _get_area_ratio(self, pos_proposals: Tensor, pos_assigned_gt_inds: Tensor, gt_masks) -> Tensor:
        """The part of its ground truth that each positive of one image holds."""
        image = torch.zeros_like(pos_assigned_gt_inds)
        return mask_shares(pos_proposals, image, pos_assigned_gt_inds, [gt_masks])

    @in_float32
    def predict_by_feat(self, mask_iou_preds: Sequence[Tensor], results_list: InstanceList) -> InstanceList:
        """Multiply the scores of each image's detections by the predicted IoU ``(n, C)`` of their class."""
        for ious, results in zip(mask_iou_preds, results_list):
            results.scores = results.scores * of_label(ious, results.labels)
        return results_list
