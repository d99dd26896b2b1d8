"""Masks of regions (Mask R-CNN, arXiv:1703.06870).

Letters: B images, S slots of positives, K = B * S regions, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.cnn import ConvModule, build_upsample_layer
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from mmdet.errors import UserValueError
from mmdet.models.core import RoISamples, by_batch, in_float32, of_label
from mmdet.models.core.masks import crop_masks, paste_batch, paste_masks, paste_rle
from mmdet.models.layers import build_conv_layer
from mmdet.models.layers.building import resolve_layer
from mmdet.models.roi_heads import joints
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig


@MODELS.register_module()
class FCNMaskHead(BaseModule):
    """Convolutions, an upsampling, and one mask of each class.

    Args:
        class_agnostic: Whether one mask serves all classes.
        upsample_cfg: Type (deconv, nearest, bilinear, carafe or None) and scale factor of the upsampling.
        predictor_cfg: Layer of the predictor.
    """

    def __init__(
        self,
        num_convs: int = 4,
        roi_feat_size: int = 14,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        conv_out_channels: int = 256,
        num_classes: int = 80,
        class_agnostic: int = False,
        upsample_cfg: ConfigType = dict(type='deconv', scale_factor=2),
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        predictor_cfg: ConfigType = dict(type='Conv'),
        loss_mask: ConfigType = dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError('FCNMaskHead initialises its layers itself; init_cfg must be None')
        super().__init__(init_cfg=init_cfg)
        self.upsample_cfg = dict(upsample_cfg)
        self.upsample_method = self.upsample_cfg.get('type')
        self.scale_factor = self.upsample_cfg.pop('scale_factor', None)
        if self.upsample_method not in (None, 'deconv', 'nearest', 'bilinear', 'carafe'):
            raise UserValueError(
                f"upsample_cfg type must be None, 'deconv', 'nearest', 'bilinear' or 'carafe', "
                f'not {self.upsample_method!r}'
            )
        self.num_convs, self.roi_feat_size = num_convs, _pair(roi_feat_size)
        self.in_channels, self.conv_kernel_size = in_channels, conv_kernel_size
        self.conv_out_channels, self.num_classes = conv_out_channels, num_classes
        self.class_agnostic, self.predictor_cfg = class_agnostic, predictor_cfg
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.loss_mask = MODELS.build(loss_mask)
        padding = (conv_kernel_size - 1) // 2
        self.convs = nn.ModuleList(
            ConvModule(
                conv_out_channels if i else in_channels,
                conv_out_channels,
                conv_kernel_size,
                padding=padding,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
            )
            for i in range(num_convs)
        )
        width = conv_out_channels if num_convs else in_channels
        self.upsample = self._upsample_layer(width)
        logits_in = conv_out_channels if self.upsample_method == 'deconv' else width
        self.conv_logits = build_conv_layer(predictor_cfg, logits_in, 1 if class_agnostic else num_classes, 1)
        self.relu = nn.ReLU(inplace=True)

    def _upsample_layer(self, width: int) -> nn.Module | None:
        if self.upsample_method is None:
            return None
        cfg = dict(self.upsample_cfg)
        if self.upsample_method == 'deconv':
            kernel = stride = self.scale_factor
            cfg.update(in_channels=width, out_channels=self.conv_out_channels, kernel_size=kernel, stride=stride)
        elif self.upsample_method == 'carafe':
            cfg.update(channels=width, scale_factor=self.scale_factor)
        else:
            cfg['scale_factor'] = self.scale_factor
            if self.upsample_method == 'bilinear':
                cfg['align_corners'] = False
        return build_upsample_layer(resolve_layer(cfg))

    def init_weights(self) -> None:
        super().init_weights()
        module: Any
        for module in (self.upsample, self.conv_logits):
            if module is None:
                continue
            if hasattr(module, 'init_weights'):
                module.init_weights()
            elif hasattr(module, 'weight') and hasattr(module, 'bias'):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                nn.init.constant_(module.bias, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Mask logits ``(K, C, h, w)`` of features ``(K, c, h', w')``."""
        for conv in self.convs:
            x = conv(x)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        """Upsampling and predictor."""
        if self.upsample is not None:
            x = self.upsample(x)
            if self.upsample_method == 'deconv':
                x = self.relu(x)
        return self.conv_logits(x)

    @by_batch
    def get_targets(
        self, sampling_results: RoISamples | Sequence, batch_gt_instances: InstanceList, rcnn_train_cfg: ConfigDict
    ) -> Tensor:
        """Target masks ``(K, h, w)``: the ground truth cut out by each region among the positive ones.

        Slots without a region get zeros.
        """
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        chosen, masks = samples.positives, [instances.masks for instances in batch_gt_instances]
        return chosen.pack(crop_masks(chosen.boxes, chosen.gt_inds, chosen.pos, masks, rcnn_train_cfg, chosen.host))

    @by_batch
    def loss_and_target(
        self,
        mask_preds: Tensor,
        sampling_results: RoISamples | Sequence,
        batch_gt_instances: InstanceList,
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """``loss_mask``, a dict of losses, and ``mask_targets``."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        targets = self.get_targets(samples, batch_gt_instances, rcnn_train_cfg)
        labels, used = samples.positives.rows('gt_labels', 'pos')
        if self.class_agnostic:
            labels = torch.zeros_like(labels)
        loss = self._loss_of(mask_preds, targets, labels, used)
        return dict(loss_mask=dict(loss_mask=loss), mask_targets=targets)

    def _loss_of(self, mask_preds: Tensor, targets: Tensor, labels: Tensor, used: Tensor) -> Tensor:
        """Loss of logits ``(K, C, h, w)`` against masks ``(K, h, w)`` of classes ``(K,)``; only ``used (K,)`` count."""
        if len(mask_preds) == 0:
            return mask_preds.sum()
        return self.loss_mask(mask_preds, targets, labels, sample_weight=used)

    @in_float32
    def predict_by_feat(
        self,
        mask_preds: Sequence[Tensor],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> InstanceList:
        """Put ``masks (n, H, W)`` into the detections of each image.

        With ``mask_format='rle'`` in ``rcnn_test_cfg`` these are COCO's run-length codes instead, and no mask of an
        image's size is made. Pasting goes through all images at once.

        Args:
            mask_preds: Logits, or with ``activate_map`` probabilities, ``(n, C, h, w)`` of each image.
        """
        kind = rcnn_test_cfg.get('mask_format', 'tensor')
        if kind not in ('tensor', 'rle'):
            raise UserValueError(f"mask_format must be 'tensor' or 'rle', not {kind!r}")
        if not hasattr(self._predict_by_feat_single, 'by_batch'):
            options = rcnn_test_cfg, rescale, activate_map
            return joints.masks_of_each_image(self, mask_preds, results_list, batch_img_metas, *options)
        masks, boxes, shapes = self._to_paste(mask_preds, results_list, batch_img_metas, rescale, activate_map)
        counts, paste = [len(results.bboxes) for results in results_list], paste_rle if kind == 'rle' else paste_batch
        pasted = paste(masks, boxes, counts, shapes, rcnn_test_cfg.mask_thr_binary)
        for results, found in zip(results_list, pasted):
            results.masks = found
        return results_list

    @by_batch
    def _predict_by_feat_single(
        self,
        mask_preds: Tensor,
        bboxes: Tensor,
        labels: Tensor,
        img_meta: dict,
        rcnn_test_cfg: ConfigDict,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> Tensor:
        """Masks of one image, bool or, at a negative threshold, probabilities in 0 to 255.

        ``bboxes`` are in pixels of the network input; with ``rescale`` they are brought to the original image in place.
        """
        results = [InstanceData(bboxes=bboxes, labels=labels)]
        masks, boxes, shapes = self._to_paste([mask_preds], results, [img_meta], rescale, activate_map)
        if rescale:
            bboxes.copy_(boxes)
        return paste_masks(masks, boxes, shapes[0], rcnn_test_cfg.mask_thr_binary)

    def _to_paste(
        self,
        mask_preds: Sequence[Tensor],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rescale: bool,
        activate_map: bool,
    ) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """Probabilities ``(n, h, w)`` of the labels, boxes ``(n, 4)`` and the size of each image to paste into.

        With ``rescale`` the boxes of the results are those in pixels of the original images.
        """
        picked = [
            preds[:, 0] if self.class_agnostic else of_label(preds, results.labels)
            for preds, results in zip(mask_preds, results_list)
        ]
        counts = [len(part) for part in picked]
        boxes = torch.cat([results.bboxes for results in results_list])
        shapes = [tuple(meta['ori_shape'][:2]) for meta in batch_img_metas]
        if rescale:
            factors = np.array([[*meta['scale_factor']] * 2 for meta in batch_img_metas], np.float64)
            factor = torch.from_numpy(np.repeat(factors, counts, 0)).to(boxes.dtype)
            boxes = boxes / factor.to(boxes.device, non_blocking=True)
            for results, part in zip(results_list, boxes.split(counts)):
                results.bboxes = part
        else:
            scales = [meta['scale_factor'] for meta in batch_img_metas]
            shapes = [(round(h * y), round(w * x)) for (h, w), (x, y) in zip(shapes, scales)]
        masks = torch.cat(picked)
        return masks.to(boxes) if activate_map else masks.sigmoid(), boxes, shapes
