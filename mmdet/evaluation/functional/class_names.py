"""Class names of well-known datasets by the name of the dataset."""

from __future__ import annotations

from difflib import get_close_matches

from mmdet.errors import UserTypeError, UserValueError
from mmdet.utils.class_names import (
    CITYSCAPES_CLASSES,
    COCO_CLASSES,
    COCO_STUFF_CLASSES,
    IMAGENET_VID_CLASSES,
    VOC_CLASSES,
    WIDER_FACE_CLASSES,
)


def wider_face_classes() -> list[str]:
    """WIDER FACE."""
    return list(WIDER_FACE_CLASSES)


def voc_classes() -> list[str]:
    """Pascal VOC 2007 and 2012, 20 classes."""
    return list(VOC_CLASSES)


def imagenet_vid_classes() -> list[str]:
    """ImageNet VID, 30 classes."""
    return list(IMAGENET_VID_CLASSES)


def coco_classes() -> list[str]:
    """COCO 2017, 80 classes."""
    return list(COCO_CLASSES)


def coco_panoptic_classes() -> list[str]:
    """COCO panoptic: the 80 things, then 53 kinds of stuff."""
    return [*COCO_CLASSES, *COCO_STUFF_CLASSES]


def cityscapes_classes() -> list[str]:
    """Cityscapes, the 8 classes with instances."""
    return list(CITYSCAPES_CLASSES)


dataset_aliases = {
    'voc': ['voc', 'pascal_voc', 'voc07', 'voc12'],
    'imagenet_vid': ['vid', 'imagenet_vid', 'ilsvrc_vid'],
    'coco': ['coco', 'mscoco', 'ms_coco'],
    'coco_panoptic': ['coco_panoptic', 'panoptic'],
    'wider_face': ['WIDERFaceDataset', 'wider_face', 'WIDERFace'],
    'cityscapes': ['cityscapes'],
}


def get_classes(dataset: str) -> list[str]:
    """Class names of a dataset by its name or an alias of it.

    Raises:
        TypeError: if ``dataset`` is not a string.
        ValueError: if it is not known, with the nearest names.
    """
    if not isinstance(dataset, str):
        raise UserTypeError(f'dataset must be a name, got {type(dataset).__name__}.')
    for name, aliases in dataset_aliases.items():
        if dataset in aliases:
            return globals()[f'{name}_classes']()
    known = [alias for aliases in dataset_aliases.values() for alias in aliases]
    near = get_close_matches(dataset, known, n=3) or sorted(dataset_aliases)
    raise UserValueError(f'Unrecognized dataset: {dataset!r}. Known are {", ".join(near)}.')
