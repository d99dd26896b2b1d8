"""Make a small detection dataset in COCO format: textured scenes with overlapping shapes of several classes and sizes.

Everything is a function of ``--seed``. A box is the bound of the whole shape inside the picture, also where another
shape lies on top of it; the polygon is the outline of the whole shape, cut at the border of the picture. Shapes that
are covered or cut off for more than 60 % of their area are not labelled: they are not drawn either.

With ``--panoptic`` they lie on grass, sand and water, and there is a panoptic map of each picture as well: shapes are
things, the grounds are stuff, and a pixel belongs to what is seen there.

With ``--texts`` any shape may have any colour, and a class is both: red circle. For detectors that read there are ODVG
files of the training pictures beside those of COCO: ``train_od.json`` with ``label_map.json``, and ``train_vg.json``,
whose captions say what is there, 'two red circles and a blue star.'; and ``bert``, a small language model, made by
`transformers`, that has these words and has learned nothing yet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))

from mmdet.errors import UserImportError

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
# Each class has its own hue range (of 180, as in OpenCV) and its own texture; the ranges overlap with neither the
# other classes nor the dull background.
HUES = {'circle': 0, 'square': 36, 'triangle': 72, 'star': 108, 'cross': 144}
GROUNDS = ('grass', 'sand', 'water')
GROUND_HUES = (48, 14, 105)
COLOURS = {'red': 0, 'yellow': 28, 'green': 62, 'blue': 112}
COLOURED = tuple(f'{colour} {name}' for colour in COLOURS for name in CLASSES)
COUNTS = ('a', 'two', 'three', 'four', 'five', 'six', 'seven')
SIDES = (128, 144, 160, 176, 192)


def outline(name: str, radius: float, angle: float) -> np.ndarray:
    """Corners (N, 2) of a shape about the origin; ``radius`` reaches its farthest corner."""

    def ring(count: int, radii: float | np.ndarray) -> np.ndarray:
        turn = angle + np.arange(count) * 2 * np.pi / count
        return np.stack([np.cos(turn), np.sin(turn)], 1) * np.broadcast_to(radii, count)[:, None]

    if name == 'circle':
        return ring(24, radius)
    if name == 'square':
        return ring(4, radius)
    if name == 'triangle':
        return ring(3, radius)
    if name == 'star':
        return ring(10, np.tile([radius, 0.45 * radius], 5))
    arm = 0.36
    corner = [(1, -arm), (1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm)]
    corner += [(-x, -y) for x, y in corner]
    c, s = np.cos(angle), np.sin(angle)
    return np.array(corner) @ np.array([[c, s], [-s, c]]) * (radius / np.hypot(1, arm))


def clip_polygon(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Sutherland-Hodgman clipping of a polygon (N, 2) to the picture."""
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        inside = sign * (points[:, axis] - limit) >= 0
        kept = []
        for i in range(len(points)):
            here, before = points[i], points[i - 1]
            if inside[i] != inside[i - 1]:
                part = (limit - before[axis]) / (here[axis] - before[axis])
                kept.append(before + part * (here - before))
            if inside[i]:
                kept.append(here)
        points = np.array(kept).reshape(-1, 2)
    return points


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A dull scene of clouds, stripes and grain, BGR uint8."""
    coarse = rng.uniform(60, 190, (rng.integers(3, 7), rng.integers(3, 7), 3))
    coarse = coarse.mean(2, keepdims=True) + 0.25 * (coarse - coarse.mean(2, keepdims=True))
    scene = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 30)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    scene += rng.uniform(0, 18) * stripes[..., None] + rng.normal(0, 6, (height, width, 1))
    return scene.clip(0, 255).astype(np.uint8)


def grounds(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of two or three grounds that meet in wavy lines, BGR uint8, and the number of the one at each pixel."""
    y, x = np.mgrid[:height, :width]
    angle, wave = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    along = (
        along + rng.uniform(4, 12) * np.sin(across / rng.uniform(9, 20) + wave[0]) + 3 * np.sin(across / 5 + wave[1])
    )
    kinds = rng.permutation(len(GROUNDS))[: int(rng.integers(2, 4))]
    borders = np.quantile(along, np.cumsum(rng.dirichlet(np.full(len(kinds), 4.0)))[:-1])
    number = kinds[np.searchsorted(borders, along)]
    textures = (
        14 * np.abs(rng.normal(0, 1, (height // 4 + 1, width))).repeat(4, 0)[:height],  # blades
        rng.normal(0, 13, (height, width)),  # grains
        16 * np.sin((across + 2 * np.sin(along / 7)) * 2 * np.pi / rng.uniform(7, 12)),  # ripples
    )
    light = rng.uniform(95, 170) + np.choose(number, textures)
    hue, saturation = np.choose(number, GROUND_HUES), np.choose(number, rng.integers(60, 95, len(GROUNDS)))
    paint = np.stack([hue, saturation, light.clip(0, 255)], -1).astype(np.uint8)
    return cv2.cvtColor(paint, cv2.COLOR_HSV2BGR), number


def fill(rng: np.random.Generator, hue: int, spread: int, width: int, height: int) -> np.ndarray:
    """Paint of about a hue, as large as the picture, BGR uint8."""
    hue = (hue + rng.integers(-spread, spread + 1)) % 180
    paint = np.full((height, width, 3), (hue, rng.integers(150, 256), rng.integers(140, 240)), np.uint8)
    y, x = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 12)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    value = paint[..., 2] + rng.uniform(0, 35) * wave + rng.normal(0, 5, (height, width))
    paint[..., 2] = value.clip(0, 255)
    return cv2.cvtColor(paint, cv2.COLOR_HSV2BGR)


def scene(
    rng: np.random.Generator, panoptic: bool = False, texts: bool = False
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]], np.ndarray | None]:
    """A picture; its shapes, back to front: class and polygon (N, 2) in pixels; with ``panoptic`` its grounds."""
    width, height = int(rng.choice(SIDES[2:])), int(rng.choice(SIDES[:3]))
    picture, ground = grounds(rng, width, height) if panoptic else (background(rng, width, height), None)
    visible: list[np.ndarray] = []
    areas: list[int] = []
    shapes: list[tuple[str, np.ndarray]] = []
    for _ in range(int(rng.integers(2, 8))):
        name = CLASSES[rng.integers(len(CLASSES))]
        radius = float(np.exp(rng.uniform(np.log(9), np.log(44))))
        points = outline(name, radius, rng.uniform(0, 2 * np.pi)) + rng.uniform((0, 0), (width, height))
        hue, spread, label = HUES[name], 10, name
        if texts:
            colour = list(COLOURS)[rng.integers(len(COLOURS))]
            hue, spread, label = COLOURS[colour], 6, f'{colour} {name}'
        paint = fill(rng, hue, spread, width, height)
        polygon = clip_polygon(points, width, height)
        mask, whole = raster(polygon, width, height), cv2.contourArea(points.astype(np.float32))
        left = [other & ~mask for other in visible]
        covers = any(rest.sum() < 0.4 * area for rest, area in zip(left, areas, strict=True))
        if not len(polygon) or mask.sum() < 0.4 * whole or covers:
            continue
        visible, areas = [*left, mask], [*areas, mask.sum()]
        shapes.append((label, polygon))
        picture[mask] = paint[mask]
        edge = np.round(polygon * 16).astype(np.int32)
        cv2.polylines(picture, [edge], True, (25, 25, 25), 1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(picture, (3, 3), 0.6), shapes, ground


def raster(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    if len(polygon):
        cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def segments_of(
    shapes: list[tuple[str, np.ndarray]], ground: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """A map of segment ids, and of each segment that is seen its id, its category and its mask."""
    ids = ground + 1
    for number, (_, polygon) in enumerate(shapes, start=len(GROUNDS) + 1):
        ids[raster(polygon, *ground.shape[::-1])] = number
    category = {i + 1: len(CLASSES) + i + 1 for i in range(len(GROUNDS))}
    category |= {len(GROUNDS) + i + 1: CLASSES.index(label) + 1 for i, (label, _) in enumerate(shapes)}
    return ids, [(int(i), category[int(i)], ids == i) for i in np.unique(ids)]


def write_map(path: Path, shapes: list[tuple[str, np.ndarray]], ground: np.ndarray, image_id: int) -> dict:
    """Write the panoptic map of a picture; returns its annotation."""
    ids, segments = segments_of(shapes, ground)
    if not cv2.imwrite(str(path), np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1).astype(np.uint8)):
        raise OSError(f'{path} could not be written')
    infos = []
    for number, category, mask in segments:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        bbox = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
        infos.append(dict(id=number, category_id=category, area=int(mask.sum()), bbox=bbox, iscrowd=0))
    return dict(image_id=image_id, file_name=path.name, segments_info=infos)


def caption_of(rng: np.random.Generator, labels: list[str]) -> tuple[str, list[tuple[str, list[int]]]]:
    """A sentence of what is there, in any order; each label that it names, and the span of its phrase in letters."""
    caption, places = '', []
    order = rng.permutation(sorted(set(labels))).tolist()
    for number, label in enumerate(order):
        if number:
            caption += ' and ' if number == len(order) - 1 else ', '
        start, count = len(caption), labels.count(label)
        ending = '' if count == 1 else 'es' if label.endswith('s') else 's'
        caption += f'{COUNTS[count - 1]} {label}{ending}'
        places.append((label, [start, len(caption)]))
    return caption + '.', places


def write_captions(path: Path, images: list[dict], annotations: list[dict], seed: list[int]) -> None:
    """Write an ODVG file of a caption for each picture."""
    from mmdet.datasets.reading.odvg_file import write_lines

    boxes: dict[int, dict[str, list]] = {image['id']: {} for image in images}
    for annotation in annotations:
        x, y, w, h = annotation['bbox']
        label = COLOURED[annotation['category_id'] - 1]
        boxes[annotation['image_id']].setdefault(label, []).append([x, y, round(x + w, 2), round(y + h, 2)])
    records = []
    for image in images:
        own = boxes[image['id']]
        labels = [label for label, found in own.items() for _ in found]
        caption, places = caption_of(np.random.default_rng([*seed, image['id']]), labels)
        regions = [
            dict(bbox=own[label], phrase=caption[start:end], tokens_positive=[[start, end]])
            for label, (start, end) in places
        ]
        size = dict(filename=image['file_name'], height=image['height'], width=image['width'])
        records.append(dict(size, grounding=dict(caption=caption, regions=regions)))
    write_lines(str(path), records)


def write_bert(folder: Path, seed: int) -> None:
    """A BERT of two layers of 128 channels with random weights, and the words of the captions; others are spelled."""
    import torch

    try:
        from safetensors.torch import save_file
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise UserImportError(
            f'the language model is made by transformers, which cannot be imported ({error}): pip install transformers'
        ) from error
    letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', ',', *letters, *(f'##{own}' for own in letters)]
    words += [*COUNTS[1:], 'and', *COLOURS, *CLASSES, *(name + ('es' if name[-1] == 's' else 's') for name in CLASSES)]
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(words) + '\n')
    (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    sizes = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256)
    rates = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(vocab_size=len(words), max_position_embeddings=256, **sizes, **rates)
        model = BertModel(config, add_pooling_layer=False)
    config.save_pretrained(folder)
    save_file(model.state_dict(), folder / 'model.safetensors', metadata=dict(format='pt'))


def make_split(
    root: Path, name: str, count: int, seed: list[int], note: str, panoptic: bool = False, texts: bool = False
) -> None:
    images, annotations, maps = [], [], []
    classes = COLOURED if texts else CLASSES
    folder, map_folder = root / name, root / 'annotations' / f'panoptic_{name}'
    folder.mkdir(parents=True)
    (map_folder if panoptic else map_folder.parent).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        picture, shapes, ground = scene(rng, panoptic, texts)
        while not shapes:
            picture, shapes, ground = scene(rng, panoptic, texts)
        height, width = picture.shape[:2]
        file_name = f'{index:06d}.jpg'
        if not cv2.imwrite(str(folder / file_name), picture, [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f'{folder / file_name} could not be written')
        images.append(dict(id=index + 1, file_name=file_name, width=width, height=height))
        if ground is not None:
            maps.append(write_map(map_folder / f'{index:06d}.png', shapes, ground, index + 1))
        for label, polygon in shapes:
            polygon = polygon.round(2)
            x1, y1 = polygon.min(0)
            x2, y2 = polygon.max(0)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=classes.index(label) + 1,
                    bbox=[round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                    area=round(float(cv2.contourArea(polygon.astype(np.float32))), 2),
                    iscrowd=0,
                    segmentation=[[round(float(v), 2) for v in polygon.ravel()]],
                )
            )
    categories = [dict(id=i + 1, name=label, supercategory='shape') for i, label in enumerate(classes)]
    file = map_folder.parent / f'{name}.json'
    write_json(file, note, images, annotations, categories)
    if texts and name == 'train':
        from mmdet.datasets.reading.to_odvg import convert_detection

        convert_detection(file, file.with_name('train_od.json'), file.with_name('label_map.json'))
        write_captions(file.with_name('train_vg.json'), images, annotations, seed)
    if panoptic:
        categories = [dict(category, isthing=1) for category in categories]
        for i, ground_name in enumerate(GROUNDS, start=len(CLASSES) + 1):
            categories.append(dict(id=i, name=ground_name, supercategory='ground', isthing=0))
        write_json(map_folder.with_suffix('.json'), note, images, maps, categories)


def write_json(path: Path, note: str, images: list, annotations: list, categories: list) -> None:
    content = dict(info=dict(description=note), images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content, separators=(',', ':')))


def describe(split: str, count: int, seed: int, panoptic: bool = False, texts: bool = False) -> str:
    kind = ' panoptic' if panoptic else ' with texts' if texts else ''
    return f'shapes 1{kind}, {split}, {count} images, seed {seed}'


def is_there(out: Path, train: int, val: int, seed: int, panoptic: bool = False, texts: bool = False) -> bool:
    """Whether ``out`` holds the dataset that these arguments make."""
    for name, count in (('train', train), ('val', val)):
        file = out / 'annotations' / f'{name}.json'
        note = describe(name, count, seed, panoptic, texts)
        if not file.is_file() or json.loads(file.read_text())['info']['description'] != note:
            return False
    return True


def make_dataset(
    out: Path, train: int = 300, val: int = 60, seed: int = 0, panoptic: bool = False, texts: bool = False
) -> None:
    """Write ``out``/{train,val}/*.jpg and ``out``/annotations/{train,val}.json; all of it appears at once or not.

    With ``panoptic`` also ``out``/annotations/panoptic_{train,val}/*.png and ``.json`` of the same name, with ``texts``
    also ``out``/annotations/{train_od,label_map,train_vg}.json and ``out``/bert.

    Raises:
        FileExistsError: ``out`` holds something already.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f'{out} exists and is not empty: name another folder or use --force')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.shapes-') as temporary:
        root = Path(temporary) / 'data'
        for number, (name, count) in enumerate((('train', train), ('val', val))):
            note = describe(name, count, seed, panoptic, texts)
            make_split(root, name, count, [seed, number], note, panoptic, texts)
        if texts:
            write_bert(root / 'bert', seed)
        if out.exists():
            out.rmdir()
        os.replace(root, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'out', nargs='?', type=Path, help='folder to write (data/shapes, data/shapes_panoptic, data/shapes_texts)'
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--panoptic', action='store_true', help='shapes on grounds, with panoptic maps')
    kind.add_argument('--texts', action='store_true', help='shapes of any colour, with texts for detectors that read')
    parser.add_argument('--train', type=int, help='number of training images (300, with --texts 600)')
    parser.add_argument('--val', type=int, default=60, help='number of validation images (60)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--force', action='store_true', help='replace the folder if it exists')
    args = parser.parse_args()
    kind = '_panoptic' if args.panoptic else '_texts' if args.texts else ''
    args.out = args.out or Path(f'data/shapes{kind}')
    args.train = args.train or (600 if args.texts else 300)
    wanted = args.train, args.val, args.seed, args.panoptic, args.texts
    if not args.force and is_there(args.out, *wanted):
        print(f'{args.out}: already there')
        return
    if args.force and args.out.exists():
        marker = args.out / 'annotations' / 'train.json'
        if any(args.out.iterdir()) and not marker.is_file():
            parser.error(f'{args.out} does not look like a dataset made by this tool: {marker} is missing')
        shutil.rmtree(args.out)
    make_dataset(args.out, *wanted)
    names = ', '.join(COLOURED if args.texts else CLASSES + GROUNDS if args.panoptic else CLASSES)
    print(f'{args.out}: {args.train} training and {args.val} validation images, classes {names}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
