from __future__ import annotations

from mmdet.registry import DATASETS
from mmdet.utils.class_names import COCO_CLASSES, COCO_PALETTE

from .ade20k import ADE20KSegDataset

# fmt: off
STUFF = (
    'banner', 'blanket', 'branch', 'bridge', 'building-other', 'bush', 'cabinet', 'cage', 'cardboard', 'carpet',
    'ceiling-other', 'ceiling-tile', 'cloth', 'clothes', 'clouds', 'counter', 'cupboard', 'curtain', 'desk-stuff',
    'dirt', 'door-stuff', 'fence', 'floor-marble', 'floor-other', 'floor-stone', 'floor-tile', 'floor-wood', 'flower',
    'fog', 'food-other', 'fruit', 'furniture-other', 'grass', 'gravel', 'ground-other', 'hill', 'house', 'leaves',
    'light', 'mat', 'metal', 'mirror-stuff', 'moss', 'mountain', 'mud', 'napkin', 'net', 'paper', 'pavement', 'pillow',
    'plant-other', 'plastic', 'platform', 'playingfield', 'railing', 'railroad', 'river', 'road', 'rock', 'roof', 'rug',
    'salad', 'sand', 'sea', 'shelf', 'sky-other', 'skyscraper', 'snow', 'solid-other', 'stairs', 'stone', 'straw',
    'structural-other', 'table', 'tent', 'textile-other', 'towel', 'tree', 'vegetable', 'wall-brick', 'wall-concrete',
    'wall-other', 'wall-panel', 'wall-stone', 'wall-tile', 'wall-wood', 'water-other', 'waterdrops', 'window-blind',
    'window-other', 'wood',
)
# fmt: on
# Thing numbers of COCO that no thing has, from 0; all else up to 181 is a class of COCO-Stuff.
UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)


def voc_color(number: int) -> tuple[int, int, int]:
    """Colours as PASCAL VOC's tools number them: the bits of the number, in turn to red, green and blue."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


@DATASETS.register_module()
class CocoSegDataset(ADE20KSegDataset):
    """COCO-Stuff (arXiv:1612.03716) in 171 classes: 80 things and 91 kinds of stuff.

    ``tools/dataset_converters/coco_stuff164k.py`` numbers its maps so.
    """

    METAINFO = dict(
        classes=(*COCO_CLASSES, *STUFF),
        palette=[*COCO_PALETTE, *(voc_color(number) for number in range(81, 81 + len(STUFF)))],
    )
