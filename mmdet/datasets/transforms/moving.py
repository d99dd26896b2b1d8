"""Which transforms of albumentations move what is in a picture."""

from __future__ import annotations

from typing import Any

BOX_PARAMETERS = "dict(type='BboxParams', format='pascal_voc', label_fields=['gt_bboxes_labels', 'gt_ignore_flags'])"
_STILL = {'CoarseDropout', 'GridDropout', 'XYMasking', 'MaskDropout', 'PixelDropout', 'NoOp', 'Lambda', 'Erasing'}
_STILL |= {'ConstrainedCoarseDropout', 'OverlayElements', 'Morphological'}
_MOVING = {
    *('HorizontalFlip', 'VerticalFlip', 'Flip', 'D4', 'SquareSymmetry', 'Transpose', 'RandomRotate90', 'Rotate'),
    *('SafeRotate', 'ShiftScaleRotate', 'Affine', 'PiecewiseAffine', 'Perspective', 'ElasticTransform'),
    *('GridDistortion', 'GridElasticDeform', 'OpticalDistortion', 'ThinPlateSpline', 'RandomGridShuffle'),
    *('Crop', 'CenterCrop', 'RandomCrop', 'RandomResizedCrop', 'RandomSizedCrop', 'RandomSizedBBoxSafeCrop'),
    *('BBoxSafeRandomCrop', 'AtLeastOneBBoxRandomCrop', 'RandomCropNearBBox', 'RandomCropFromBorders', 'CropAndPad'),
    *('CropNonEmptyMaskIfExists', 'Resize', 'RandomScale', 'LongestMaxSize', 'SmallestMaxSize', 'Pad', 'PadIfNeeded'),
}


def moving_transforms(configs: Any) -> list[str]:
    """Names of the transforms in a list of configs, and in their own lists, that move boxes with the picture."""
    found = []
    for config in configs or ():
        kind = config.get('type') if isinstance(config, dict) else type(config)
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if name in _MOVING or (name not in _STILL and _is_dual(kind)):
            found.append(name)
        found += moving_transforms(config.get('transforms') if isinstance(config, dict) else None)
    return list(dict.fromkeys(found))


def _is_dual(kind: Any) -> bool:
    """Whether it is of the kind that albumentations applies to pictures and boxes alike."""
    try:
        import albumentations
    except ImportError:
        return False
    kind = getattr(albumentations, kind, None) if isinstance(kind, str) else kind
    dual = getattr(albumentations, 'DualTransform', None)
    return isinstance(kind, type) and isinstance(dual, type) and issubclass(kind, dual)
