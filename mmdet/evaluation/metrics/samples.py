"""What metrics take out of data samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mmdet.errors import UserValueError


def to_numpy(values: Any) -> np.ndarray:
    """An array of a tensor on any device, or of what is like an array."""
    if isinstance(values, torch.Tensor) and values.dtype is torch.bfloat16:  # which numpy lacks
        values = values.float()
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def require_finite(prediction: dict, img_id: Any) -> None:
    """Refuse detections that every backend would sort in another way.

    Raises:
        UserValueError: naming the picture.
    """
    for key in ('scores', 'bboxes', 'mask_scores'):
        value = prediction.get(key)
        if value is not None and not np.isfinite(value).all():
            number = int(np.argmin(np.isfinite(np.reshape(value, (len(value), -1))).all(1)))
            raise UserValueError(
                f'image {img_id!r}: {key} of detection {number} are {np.asarray(value)[number].tolist()}, which no '
                'metric can count. Has the model diverged, or does a layer overflow in half precision?'
            )


def encode_masks(masks: Any, where: str = 'the predictions') -> list[dict]:
    """RLE of masks: a (n, h, w) tensor or array, ``BitmapMasks``, ``PolygonMasks``, or a list that is RLE already.

    Raises:
        UserValueError: with ``where``, if run lengths of a list do not add up.
    """
    from mmdet.structures.mask import encode_mask_results
    from mmdet.structures.mask.validation import check_codes

    if isinstance(masks, list | tuple):
        check_codes(masks, where)
        return list(masks)

    return encode_mask_results(masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks)


def annotations_of(data_sample: dict) -> list[dict]:
    """The annotations as the dataset gave them, else from the ground-truth instances of the data sample."""
    if 'instances' in data_sample:
        return data_sample['instances']
    if 'gt_instances' not in data_sample:
        raise UserValueError(
            'CocoMetric without ann_file needs the ground truth in the data samples: put LoadAnnotations into the test '
            "pipeline, or 'instances' among the meta_keys of PackDetInputs."
        )
    annotations = []
    for key, ignored in (('gt_instances', 0), ('ignored_instances', 1)):
        instances = data_sample.get(key) or {}
        if not len(instances.get('labels', ())):
            continue
        boxes = instances['bboxes']
        boxes = to_numpy(getattr(boxes, 'tensor', boxes)).tolist()
        labels = to_numpy(instances['labels']).tolist()
        masks = encode_masks(instances['masks']) if 'masks' in instances else [None] * len(labels)
        for box, label, mask in zip(boxes, labels, masks, strict=True):
            annotations.append(dict(bbox=box, bbox_label=label, mask=mask, ignore_flag=ignored))
    return annotations
