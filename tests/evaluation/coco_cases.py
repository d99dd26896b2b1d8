"""Seeded COCO datasets and detections for comparing evaluators, with the oddities that real files have."""

import numpy as np
from pycocotools import mask as rle

HEIGHT, WIDTH = 120, 160
ID_CASES = ('zero ids', 'negative ids', 'text ids', 'mixed ids', 'repeated ids')
CASES = (
    'random',
    'crowd',
    'ignore',
    'ties',
    'many',
    'flat',
    'no detections',
    'no objects',
    'nothing',
    'one image',
    'masks',
    *ID_CASES,
)


def make_case(case: str, seed: int = 0) -> tuple[dict, list[dict]]:
    """A dataset and its detections in the COCO formats; every object and detection has a box and a mask.

    The cases of ids differ from ``random`` in the ids alone.
    """
    rng = np.random.default_rng([0 if case in ID_CASES else CASES.index(case), seed])
    count = 1 if case == 'one image' else 7
    truth = dict(
        images=[dict(id=3 * i + 10, width=WIDTH, height=HEIGHT, file_name=f'{i}.jpg') for i in range(count)],
        categories=[dict(id=7 * c + 2, name=f'class {c}', frequency='rcf'[c % 3]) for c in range(4)],
        annotations=[],
    )
    known = [category['id'] for category in truth['categories'][:3]]  # the last one has no object
    found = []
    for index, image in enumerate(truth['images']):
        drawn = rng.permutation(known)
        image['neg_category_ids'] = drawn[:1].tolist()
        image['not_exhaustive_category_ids'] = drawn[1:2].tolist()
        objects = 0 if case in ('no objects', 'nothing') or index == 2 else int(rng.integers(1, 14))
        boxes = _boxes(rng, objects, case)
        labels = rng.choice(drawn[1:] if case in ('random', *ID_CASES) else known, objects)
        for box, label in zip(boxes, labels, strict=True):
            crowd = case == 'crowd' and rng.random() < 0.3
            entry = dict(id=len(truth['annotations']) + 1, image_id=image['id'], category_id=int(label))
            entry |= dict(bbox=box.tolist(), area=float(box[2] * box[3] * rng.uniform(0.5, 1)), iscrowd=int(crowd))
            entry['segmentation'] = _mask(rng, box, 'counts' if crowd else None)
            if case == 'ignore' and rng.random() < 0.3:
                entry['ignore'] = 1
            truth['annotations'].append(entry)
        detections = 0 if case in ('no detections', 'nothing') or index == 4 else 3 * objects + 5
        if case == 'many':
            detections = 130
        near = boxes[rng.integers(0, max(objects, 1), detections)] if objects else np.zeros((0, 4))
        near = near + rng.normal(0, 0.08, near.shape) * near[:, [2, 3, 2, 3]]
        boxes = np.concatenate([near[: 2 * objects], _boxes(rng, detections, case)])[:detections]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 0 if case == 'flat' else 1)
        scores = rng.random(detections)
        if case == 'ties':
            scores = np.round(scores, 1)
        classes = rng.choice([*known, truth['categories'][-1]['id']], detections)
        for box, score, label in zip(boxes, scores, classes, strict=True):
            entry = dict(image_id=image['id'], category_id=int(label), bbox=box.tolist(), score=float(score))
            found.append(entry | dict(segmentation=_mask(rng, box, 'text')))
    _renumber(truth, found, case)
    return truth, found


def _boxes(rng, count, case):
    """(count, 4) xywh within the image, of all three ranges of size."""
    size = np.exp(rng.uniform(np.log(5), np.log(140), (count, 2)))
    if case == 'flat':
        size[rng.random((count, 2)) < 0.2] = 0
    corner = rng.uniform(0, [WIDTH - 20, HEIGHT - 20], (count, 2))
    return np.concatenate([corner, np.minimum(size, [WIDTH, HEIGHT] - corner)], 1)


def _mask(rng, box, kind=None):
    """An octagon in a box: a polygon, text, bytes or plain counts."""
    x, y, w, h = box.tolist()
    w, h = max(w, 1), max(h, 1)
    corners = ((0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3))
    polygon = [[value for i, j in corners for value in (x + i * w, y + j * h)]]
    kind = kind or str(rng.choice(['polygon', 'text', 'counts']))
    if kind == 'polygon':
        return polygon
    code = rle.merge(rle.frPyObjects(polygon, HEIGHT, WIDTH))
    if kind == 'text':
        return dict(size=code['size'], counts=code['counts'].decode())
    bits = rle.decode(code).ravel(order='F')
    ends = np.flatnonzero(np.diff(bits, prepend=0)).tolist() + [bits.size]
    return dict(size=code['size'], counts=np.diff(ends, prepend=0).tolist())


def _renumber(truth, found, case):
    """Give images, categories and annotations the ids that the case is about."""
    new = {
        'zero ids': lambda i: i,
        'negative ids': lambda i: i - 3,
        'text ids': lambda i: f'name {i:03}',
        'mixed ids': lambda i: i if i < 2 else f'name {i:03}',
    }.get(case)
    if new is not None:
        for key, field in (('images', 'image_id'), ('categories', 'category_id'), ('annotations', 'id')):
            ids = {entry['id']: new(i) for i, entry in enumerate(truth[key])}
            for entry in truth[key]:
                entry['id'] = ids[entry['id']]
            for entry in [*truth['annotations'], *found] if key != 'annotations' else ():
                entry[field] = ids[entry[field]]
            for image in truth['images'] if key == 'categories' else ():
                for listed in ('neg_category_ids', 'not_exhaustive_category_ids'):
                    image[listed] = [ids[i] for i in image[listed]]
    if case == 'repeated ids':
        for entry in truth['annotations']:
            entry['id'] = entry['id'] % 5 + 1
