"""Small data sets with one defect each, of those that the files of users have: a seeded generator."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ('cat', 'dog')


@dataclass
class Folder:
    """A data set before it is written: ``content`` is that of a COCO file, ``xml`` are VOC's files by name."""

    content: Any = None
    xml: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    raw: bytes | None = None  # in place of the annotation file

    def any(self, rng: Random) -> dict:
        """One of the objects."""
        return rng.choice(self.content['annotations'])

    def write(self, path: Path) -> dict:
        """The part of a dataset config that says where it is."""
        name = 'JPEGImages' if self.xml else 'pictures'
        (path / name).mkdir(parents=True)
        for file, data in self.pictures.items():
            (path / name / file).write_bytes(data)
        where = dict(data_root=str(path), metainfo=dict(classes=CLASSES))
        if not self.xml:
            text = json.dumps(self.content).encode() if self.raw is None else self.raw
            (path / 'train.json').write_bytes(text)
            return dict(where, type='CocoDataset', ann_file='train.json', data_prefix=dict(img='pictures'))
        (path / 'Annotations').mkdir()
        for file, text in self.xml.items():
            (path / 'Annotations' / f'{file}.xml').write_text(text)
        names = [Path(file).stem for file in self.pictures] if self.raw is None else self.raw.decode().split()
        (path / 'train.txt').write_text('\n'.join(names))
        return dict(where, type='VOCDataset', ann_file='train.txt', data_prefix=dict(sub_data_root=''))


def picture(rng: Random, width: int, height: int) -> bytes:
    """The bytes of a JPEG file of noise."""
    image = np.random.default_rng(rng.randrange(2**31)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG')
    return file.getvalue()


def _boxes(rng: Random, width: int, height: int) -> list[list[int]]:
    found = []
    for number in range(rng.randint(2, 3)):
        x, y = 2 + 20 * number, rng.randint(2, height // 3)
        found.append([x, y, rng.randint(12, 18), rng.randint(12, height // 2)])
    return found


def sound_coco(rng: Random) -> Folder:
    """Four pictures with polygons and run lengths, and nothing wrong."""
    folder = Folder(dict(images=[], annotations=[], categories=[dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)]))
    for number in range(1, 5):
        width, height = rng.randint(64, 90), rng.randint(48, 70)
        folder.pictures[f'{number}.jpg'] = picture(rng, width, height)
        folder.content['images'].append(dict(id=number, file_name=f'{number}.jpg', width=width, height=height))
        for index, (x, y, w, h) in enumerate(_boxes(rng, width, height)):
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            runs = [x * height + y, *([h, height - h] * w)[:-1]]
            runs.append(width * height - sum(runs))
            entry = dict(id=len(folder.content['annotations']) + 1, image_id=number, category_id=index % 2 + 1)
            entry.update(bbox=[x, y, w, h], area=w * h, iscrowd=0)
            entry['segmentation'] = polygon if index else dict(size=[height, width], counts=runs)
            folder.content['annotations'].append(entry)
    return folder


def sound_voc(rng: Random) -> Folder:
    """Three pictures with an XML file each, and nothing wrong."""
    folder = Folder()
    for number in range(1, 4):
        width, height = rng.randint(64, 90), rng.randint(48, 70)
        folder.pictures[f'{number}.jpg'] = picture(rng, width, height)
        objects = ''
        for index, (x, y, w, h) in enumerate(_boxes(rng, width, height)):
            corners = f'<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>'
            objects += f'<object><name>{CLASSES[index % 2]}</name><bndbox>{corners}</bndbox></object>'
        size = f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
        folder.xml[str(number)] = f'<annotation><filename>{number}.jpg</filename>{size}{objects}</annotation>'
    return folder


# --------------------------------------------------------------------------------------------------------------------
# Defects: functions of a sound folder and a source of randomness
Defect = Callable[[Folder, Random], None]


def entry(key: str, *values: Any, remove: bool = False) -> Defect:
    """An object with another value of a key, or without the key."""

    def plant(folder: Folder, rng: Random) -> None:
        chosen = folder.any(rng)
        if remove:
            del chosen[key]
        else:
            chosen[key] = copy.deepcopy(rng.choice(values))

    return plant


def image(key: str, *values: Any, remove: bool = False) -> Defect:
    """The same for a picture."""

    def plant(folder: Folder, rng: Random) -> None:
        chosen = rng.choice(folder.content['images'])
        chosen.pop(key)
        if not remove:
            chosen[key] = rng.choice(values)

    return plant


def box(change: Callable[[list, Random], list]) -> Defect:
    """An object whose box is changed."""

    def plant(folder: Folder, rng: Random) -> None:
        chosen = folder.any(rng)
        chosen['bbox'] = change(chosen['bbox'], rng)

    return plant


def polygon(change: Callable[[list, Random], list]) -> Defect:
    """An object whose polygon is changed."""

    def plant(folder: Folder, rng: Random) -> None:
        chosen = rng.choice([a for a in folder.content['annotations'] if isinstance(a['segmentation'], list)])
        chosen['segmentation'] = change(chosen['segmentation'], rng)

    return plant


def runs(change: Callable[[dict, Random], Any]) -> Defect:
    """An object whose run-length code is changed."""

    def plant(folder: Folder, rng: Random) -> None:
        chosen = rng.choice([a for a in folder.content['annotations'] if isinstance(a['segmentation'], dict)])
        chosen['segmentation'] = change(chosen['segmentation'], rng)

    return plant


def file(change: Callable[[bytes, Random], bytes | None]) -> Defect:
    """A picture file that is changed, or taken away."""

    def plant(folder: Folder, rng: Random) -> None:
        name = rng.choice(list(folder.pictures))
        data = change(folder.pictures[name], rng)
        if data is None:
            del folder.pictures[name]
            folder.raw = ' '.join(folder.xml).encode() if folder.xml else None
        else:
            folder.pictures[name] = data

    return plant


def written(change: Callable[[bytes, Random], bytes]) -> Defect:
    """An annotation file whose bytes are changed."""

    def plant(folder: Folder, rng: Random) -> None:
        folder.raw = change(json.dumps(folder.content).encode(), rng)

    return plant


def whole(change: Callable[[dict, Random], Any]) -> Defect:
    """A file whose content is changed as a whole."""

    def plant(folder: Folder, rng: Random) -> None:
        found = change(folder.content, rng)
        folder.content = folder.content if found is None else found

    return plant


def xml(change: Callable[[str, Random], str | None]) -> Defect:
    """An XML file that is changed, or taken away."""

    def plant(folder: Folder, rng: Random) -> None:
        name = rng.choice(list(folder.xml))
        text = change(folder.xml[name], rng)
        if text is None:
            del folder.xml[name]
            return
        assert text != folder.xml[name], 'the defect is not planted'
        folder.xml[name] = text

    return plant


def tag(name: str, value: str | Callable[[str], str] | None) -> Defect:
    """An XML file with another text in the first element of a name, or without the element."""

    def change(text: str, rng: Random) -> str:
        before, _, rest = text.partition(f'<{name}>')
        old, _, after = rest.partition(f'</{name}>')
        new = value(old) if callable(value) else value
        return before + after if new is None else f'{before}<{name}>{new}</{name}>{after}'

    return xml(change)


def _equal_ids(content: dict, rng: Random) -> None:
    first, second = rng.sample(content['images'], 2)
    second['id'] = first['id']


def _text_ids(content: dict, rng: Random) -> None:
    for each in rng.sample(content['annotations'], len(content['annotations']) // 2):
        each['image_id'] = str(each['image_id'])


def _parts_of_sides(content: dict, rng: Random) -> None:
    size = {each['id']: (each['width'], each['height']) for each in content['images']}
    for each in content['annotations']:
        each['bbox'] = [value / size[each['image_id']][i % 2] for i, value in enumerate(each['bbox'])]


def _corners_as_sides(content: dict, rng: Random) -> None:
    for each in content['annotations']:
        x, y, w, h = each['bbox']
        each['bbox'] = [x + 25, y + 10, x + 25 + w, y + 10 + h]
    sizes = {each['id']: (each['width'], each['height']) for each in content['images']}
    for each in content['annotations']:
        width, height = sizes[each['image_id']]
        each['bbox'] = [min(v, side - 1) for v, side in zip(each['bbox'], (width - 9, height - 9, width, height))]


def _twice(key: str) -> Callable[[dict, Random], None]:
    def change(content: dict, rng: Random) -> None:
        content[key].append(copy.deepcopy(rng.choice(content[key])))

    return change


def _turned_code(code: dict, rng: Random) -> dict:
    return dict(code, size=code['size'][::-1], counts=[*code['counts'][:-1], code['counts'][-1] + 7])


def _far(polygons: list, rng: Random) -> list:
    polygons[0][rng.randrange(8)] = rng.choice([2e8, -2e8, 1e300, 4e9])
    return polygons


def _odd_number(polygons: list, rng: Random) -> list:
    polygons[0][rng.randrange(8)] = rng.choice([math.nan, math.inf, -math.inf, 'x', None, [1, 2]])
    return polygons


COCO: dict[str, Defect] = {
    # dropped, merged or retyped
    'area 0': entry('area', 0, -3, 0.0),
    'no area': entry('area', remove=True),
    'area that is no number': entry('area', 'large', None, math.nan),
    'boxes in 0..1': whole(_parts_of_sides),
    'corners for sides': whole(_corners_as_sides),
    'equal image ids': whole(_equal_ids),
    'image ids as text': whole(_text_ids),
    'unknown image': entry('image_id', 99, 'abc', -1),
    'no image id': entry('image_id', remove=True),
    'unknown category': entry('category_id', 17, 0),
    'no category': entry('category_id', remove=True),
    'equal annotation ids': whole(_twice('annotations')),
    'no annotation id': entry('id', remove=True),
    'width of 0': image('width', 0, -5, None),
    'no height': image('height', remove=True),
    'a height as text': image('height', 'tall', '48px'),
    'a size that overflows': image('width', 2**31, 2**40, 1e300),
    'a wrong size': image('width', 63, 640),
    'no file name': image('file_name', remove=True),
    'a file name that is a number': image('file_name', 7, None),
    'a flag as text': entry('iscrowd', 'maybe', [0], 'yes'),
    'no categories': whole(lambda content, rng: content.pop('categories') and None),
    'a class of another name': whole(lambda content, rng: content['categories'][0].update(name='Cats')),
    'no annotations': whole(lambda content, rng: content.update(annotations=[])),
    'no pictures': whole(lambda content, rng: content.update(images=[])),
    'annotations that are no list': whole(lambda content, rng: content.update(annotations={'1': 2})),
    'an annotation that is no object': whole(lambda content, rng: content['annotations'].append(rng.choice([3, 'a']))),
    'a list in place of an object': whole(lambda content, rng: content['annotations']),
    # raw exceptions
    'an empty box': entry('bbox', [], None, [1, 2, 3], 'box', {}),
    'no box': entry('bbox', remove=True),
    'a box with text': box(lambda b, rng: [*b[:3], rng.choice(['wide', None, [3]])]),
    'a box with numbers as text': box(lambda b, rng: [str(b[0]), *b[1:]]),
    'a box that is not finite': box(lambda b, rng: [*b[:2], rng.choice([math.nan, math.inf]), b[3]]),
    'a box far away': box(lambda b, rng: [rng.choice([1e12, -1e12, 1e300]), *b[1:]]),
    'a box without area': box(lambda b, rng: [*b[:2], rng.choice([0, -4]), b[3]]),
    'a box outside': box(lambda b, rng: [b[0] + 500, *b[1:]]),
    'no such picture': file(lambda data, rng: None),
    'an empty picture': file(lambda data, rng: b''),
    'a cut picture': file(lambda data, rng: data[: rng.randint(50, len(data) - 20)]),
    'text for a picture': file(lambda data, rng: b'<html>404</html>'),
    'a picture that is too large': file(lambda data, rng: b'BM' + bytes(12) + _bitmap_header()),
    'half a file': written(lambda text, rng: text[: rng.randint(2, len(text) - 2)]),
    'an empty file': written(lambda text, rng: b''),
    'bytes that are no text': written(lambda text, rng: text[:40] + b'\xff\xfe\xfa' + text[40:]),
    # what code in C must not see
    'a polygon far away': polygon(_far),
    'a polygon with what is no number': polygon(_odd_number),
    'half a point': polygon(lambda p, rng: [p[0][:-1]]),
    'two points': polygon(lambda p, rng: [p[0][:4]]),
    'a polygon without its list': polygon(lambda p, rng: p[0]),
    'a polygon of pairs': polygon(lambda p, rng: [[list(pair) for pair in zip(p[0][::2], p[0][1::2])]]),
    'a mask that is text': polygon(lambda p, rng: rng.choice(['mask.png', 7])),
    'runs that end early': runs(lambda code, rng: dict(code, counts=code['counts'][:-1])),
    'runs that go on': runs(lambda code, rng: dict(code, counts=[*code['counts'], rng.choice([5, 2**31, 2**62])])),
    'negative runs': runs(lambda code, rng: dict(code, counts=[*code['counts'][:-2], -3, 5])),
    'runs that are text': runs(lambda code, rng: dict(code, counts=[*code['counts'][:-1], 'x'])),
    'no runs': runs(lambda code, rng: dict(size=code['size'])),
    'no size of a code': runs(lambda code, rng: dict(counts=code['counts'])),
    'a code of another size': runs(_turned_code),
    'a code of a huge size': runs(lambda code, rng: dict(code, size=rng.choice([[2**31, 2**31], [1 << 20, 1 << 20]]))),
    'compressed nonsense': runs(lambda code, rng: dict(code, counts=rng.choice(['nonsense', '~~~', 'Ã¼', '']))),
    'codes in a list': runs(lambda code, rng: [code]),
}


def _bitmap_header() -> bytes:
    side = (30000).to_bytes(4, 'little')
    return (40).to_bytes(4, 'little') + side + side + b'\1\0\x18\0' + bytes(24)


def _without_first_object(text: str, rng: Random) -> str:
    return text.replace('<object>', '<objekt>').replace('</object>', '</objekt>')


def _exchanged(text: str, rng: Random) -> str:
    return text.replace('xmin', 'x').replace('xmax', 'xmin').replace('<x>', '<xmax>').replace('</x>', '</xmax>')


VOC: dict[str, Defect] = {
    'width of 0': tag('width', '0'),
    'a size that is no number': tag('height', 'unknown'),
    'no width': tag('width', None),
    'a negative size': tag('height', '-48'),
    'a wrong size': tag('width', '640'),
    'a size that overflows': tag('width', '99999999999'),
    'a coordinate that is no number': tag('xmin', 'left'),
    'an empty coordinate': tag('ymax', ''),
    'a coordinate that is not finite': tag('xmax', 'nan'),
    'a coordinate far away': tag('xmax', '1e12'),
    'no coordinate': tag('ymin', None),
    'a box without area': tag('xmax', '-5'),
    'a box outside': tag('xmin', '700'),
    'no box': tag('bndbox', None),
    'no name': tag('name', None),
    'an unknown class': tag('name', 'unicorn'),
    'corners exchanged': xml(_exchanged),
    'a flag that is no number': tag('name', 'cat</name><difficult>perhaps</difficult><name>cat'),
    'half a file': xml(lambda text, rng: text[: rng.randint(2, len(text) - 3)]),
    'an empty file': xml(lambda text, rng: ''),
    'no file': xml(lambda text, rng: None),
    'entities without end': xml(lambda text, rng: '<!DOCTYPE a [<!ENTITY b "c">]>' + text.replace('.jpg', '&d;', 1)),
    'no such picture': file(lambda data, rng: None),
    'an empty picture': file(lambda data, rng: b''),
    'a cut picture': file(lambda data, rng: data[: rng.randint(50, len(data) - 20)]),
    'text for a picture': file(lambda data, rng: b'Not Found'),
}
DEFECTS = [('coco', name) for name in COCO] + [('voc', name) for name in VOC]


def make(number: int, seed: int = 0) -> tuple[str, Folder]:
    """The data set of a number, and what is wrong with it; the defects come in turn, each time in another form."""
    kind, name = DEFECTS[number % len(DEFECTS)]
    rng = Random(f'{seed} {number}')
    folder = sound_coco(rng) if kind == 'coco' else sound_voc(rng)
    (COCO if kind == 'coco' else VOC)[name](folder, rng)
    return f'{kind}: {name}', folder
