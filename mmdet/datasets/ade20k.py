"""ADE20K, in its 150 classes for scene parsing, of which 100 are things (https://github.com/CSAILVision/sceneparsing)."""

from __future__ import annotations

from mmdet.registry import DATASETS

from .base_semseg_dataset import BaseSegDataset
from .coco import CocoDataset
from .coco_panoptic import CocoPanopticDataset

# In the order of the semantic labels; * is a thing, and what follows = is the name among the panoptic classes.
_CLASSES = (
    'wall; building; sky; floor; tree; ceiling; road=road, route; *bed; *windowpane=window; grass; *cabinet; '
    'sidewalk=sidewalk, pavement; *person; earth=earth, ground; *door; *table; mountain=mountain, mount; plant; '
    '*curtain; *chair; *car; water; *painting=painting, picture; *sofa; *shelf; house; sea; *mirror; rug; field; '
    '*armchair; *seat; *fence; *desk; rock=rock, stone; *wardrobe=wardrobe, closet, press; *lamp; *bathtub=tub; '
    '*railing=rail; *cushion; base=base, pedestal, stand; *box; *column=column, pillar; *signboard=signboard, sign; '
    '*chest of drawers=chest of drawers, chest, bureau, dresser; *counter; sand; *sink; skyscraper; *fireplace; '
    '*refrigerator=refrigerator, icebox; grandstand=grandstand, covered stand; path; *stairs; runway; *case=case, '
    'display case, showcase, vitrine; *pool table=pool table, billiard table, snooker table; *pillow; *screen '
    'door=screen door, screen; stairway=stairway, staircase; river; bridge=bridge, span; *bookcase; blind=blind, '
    'screen; *coffee table; *toilet=toilet, can, commode, crapper, pot, potty, stool, throne; *flower; *book; hill; '
    '*bench; *countertop; *stove; *palm=palm, palm tree; *kitchen island; *computer; *swivel chair; *boat; bar; '
    '*arcade machine; hovel=hovel, hut, hutch, shack, shanty; *bus; *towel; *light; *truck; tower; *chandelier; '
    '*awning=awning, sunshade, sunblind; *streetlight=street lamp; *booth; *television receiver=tv; *airplane=plane; '
    'dirt track; *apparel=clothes; *pole; land=land, ground, soil; *bannister=bannister, banister, balustrade, '
    'balusters, handrail; escalator=escalator, moving staircase, moving stairway; *ottoman=ottoman, pouf, pouffe, '
    'puff, hassock; *bottle; buffet=buffet, counter, sideboard; poster=poster, posting, placard, notice, bill, card; '
    'stage; *van; *ship; *fountain; conveyer belt=conveyer belt, conveyor belt, conveyer, conveyor, transporter; '
    'canopy; *washer=washer, automatic washer, washing machine; *plaything=plaything, toy; swimming pool=pool; '
    '*stool; *barrel=barrel, cask; *basket=basket, handbasket; waterfall=falls; tent; *bag; *minibike=minibike, '
    'motorbike; cradle; *oven; *ball; *food=food, solid food; *step=step, stair; tank=tank, storage tank; *trade '
    'name; *microwave; *pot; *animal; *bicycle; lake; *dishwasher; *screen; blanket=blanket, cover; *sculpture; '
    '*hood=hood, exhaust hood; *sconce; *vase; *traffic light; *tray; *ashcan=trash can; *fan; pier; crt screen; '
    '*plate; *monitor; *bulletin board; shower; *radiator; *glass=glass, drinking glass; *clock; *flag'
)
_COLORS = (
    '787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652 '
    '8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0 '
    'ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff '
    '8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff '
    '00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff '
    'ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff '
    '00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 '
    '5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 '
    '0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff '
    'b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff'
)
_ROWS = [entry.lstrip('*').partition('=') for entry in _CLASSES.split('; ')]
_NAMES = [name for name, *_ in _ROWS]
_PANOPTIC_NAMES = [other or name for name, _, other in _ROWS]
_PALETTE = [tuple(bytes.fromhex(color)) for color in _COLORS.split()]
_THINGS = [label for label, entry in enumerate(_CLASSES.split('; ')) if entry.startswith('*')]
_STUFF = [label for label in range(len(_ROWS)) if label not in _THINGS]

SEMANTIC_TO_PANOPTIC = {label: number for number, label in enumerate([*_THINGS, *_STUFF])}
"""The label of each semantic class among the panoptic ones, where things come first."""


@DATASETS.register_module()
class ADE20KPanopticDataset(CocoPanopticDataset):
    """ADE20K in COCO's panoptic format, as ``tools/dataset_converters/ade20k2coco.py`` writes it."""

    METAINFO = dict(
        classes=tuple(_PANOPTIC_NAMES[label] for label in [*_THINGS, *_STUFF]),
        thing_classes=tuple(_PANOPTIC_NAMES[label] for label in _THINGS),
        stuff_classes=tuple(_PANOPTIC_NAMES[label] for label in _STUFF),
        palette=[_PALETTE[label] for label in [*_THINGS, *_STUFF]],
    )


@DATASETS.register_module()
class ADE20KInstanceDataset(CocoDataset):
    """The things of ADE20K in COCO's instance format, as the same converter writes it."""

    METAINFO = dict(
        classes=tuple(_NAMES[label] for label in _THINGS),
        palette=[_PALETTE[label] for label in _THINGS],
    )


@DATASETS.register_module()
class ADE20KSegDataset(BaseSegDataset):
    """ADE20K for scene parsing. Its maps count from 1, 0 is void: ``LoadAnnotations(reduce_zero_label=True)``.

    Args:
        return_classes: Give each sample the class names as ``text`` (for models that read them).
    """

    METAINFO = dict(classes=tuple(_NAMES), palette=_PALETTE)

    def __init__(
        self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', return_classes: bool = False, **kwargs
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, return_classes=return_classes, **kwargs)
