"""Class names of well-known datasets, in the order of their labels."""

from __future__ import annotations

from difflib import get_close_matches

from mmdet.errors import UserTypeError, UserValueError


def wider_face_classes() -> list[str]:
    """WIDER FACE."""
    return ['face']


def voc_classes() -> list[str]:
    """Pascal VOC 2007 and 2012, 20 classes."""
    return _VOC.split()


def imagenet_vid_classes() -> list[str]:
    """ImageNet VID, 30 classes."""
    return _VID.split()


def coco_classes() -> list[str]:
    """COCO 2017, 80 classes."""
    return [name.replace('_', ' ') for name in _COCO.split()]


def coco_panoptic_classes() -> list[str]:
    """COCO panoptic: the 80 things, then 53 kinds of stuff."""
    return coco_classes() + _COCO_STUFF.split()


def cityscapes_classes() -> list[str]:
    """Cityscapes, the 8 classes with instances."""
    return _CITYSCAPES.split()


_VOC = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa
train tvmonitor
"""
_VID = """
airplane antelope bear bicycle bird bus car cattle dog domestic_cat elephant fox giant_panda hamster horse lion lizard
monkey motorcycle rabbit red_panda sheep snake squirrel tiger train turtle watercraft whale zebra
"""
_CITYSCAPES = """
person rider car truck bus train motorcycle bicycle
"""
_COCO = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench
bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard
sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon
bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table
toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book clock vase scissors
teddy_bear hair_drier toothbrush
"""
_COCO_STUFF = """
banner blanket bridge cardboard counter curtain door-stuff floor-wood flower fruit gravel house light mirror-stuff net
pillow platform playingfield railroad river road roof sand sea shelf snow stairs tent towel wall-brick wall-stone
wall-tile wall-wood water-other window-blind window-other tree-merged fence-merged ceiling-merged sky-other-merged
cabinet-merged table-merged floor-other-merged pavement-merged mountain-merged grass-merged dirt-merged paper-merged
food-other-merged building-other-merged rock-merged wall-other-merged rug-merged
"""

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
