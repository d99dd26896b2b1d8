import json

import numpy as np
import pytest
import torch

from mmdet.evaluation import CocoPanopticMetric
from mmdet.evaluation.functional import pq_compute_multi_core, pq_compute_single_core
from mmdet.evaluation.functional.panoptic import id2rgb, panoptic_counts, panoptic_quality, rgb2id
from mmdet.structures.mask import INSTANCE_OFFSET

META = dict(classes=('cat', 'dog', 'grass'), thing_classes=('cat', 'dog'), stuff_classes=('grass',))


def test_ids_survive_the_colours():
    ids = np.array([[0, 255, 256], [65535, 65536, 16777215]])
    np.testing.assert_array_equal(rgb2id(id2rgb(ids)), ids)


def test_counts_of_one_row_of_pixels():
    def row(text):
        return np.array([[int(c) for c in text]])

    # segment 1 is found with IoU 4 / 5, segment 2 with 2 / 4 only, which is no match
    counts = panoptic_counts(row('1111122233'), row('1111222244'), {1: 7, 2: 7, 3: 8}, {1: 7, 2: 7, 4: 8})
    np.testing.assert_allclose(counts[7], [4 / 5 + 3 / 4, 2, 0, 0])
    np.testing.assert_allclose(counts[8], [1, 1, 0, 0])
    # another category is a miss and a false alarm
    counts = panoptic_counts(row('11'), row('22'), {1: 7}, {2: 8})
    assert counts[7].tolist() == [0, 0, 0, 1] and counts[8].tolist() == [0, 0, 1, 0]
    # void is taken out of the union, and a segment on void counts neither way
    counts = panoptic_counts(row('11100000'), row('11110222'), {1: 7}, {1: 7, 2: 7})
    np.testing.assert_allclose(counts[7], [1, 1, 0, 0])
    # so with a crowd of the category, but not of another
    assert panoptic_counts(row('3333'), row('2222'), {3: 7}, {2: 7}, {3}) == {}
    assert panoptic_counts(row('3333'), row('2222'), {3: 8}, {2: 7}, {3})[7].tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match=r'without a category: \[9\]'):
        panoptic_counts(row('1'), row('9'), {1: 7}, {})


def test_counts_are_those_of_hotcoco(tmp_path):
    """Random maps with void, crowds, segments on void and classes that one side lacks."""
    import cv2

    panoptic = pytest.importorskip('hotcoco.panoptic')
    rng = np.random.default_rng(0)
    categories = [dict(id=3 * i + 1, name=f'class {i}', isthing=int(i < 3)) for i in range(5)]

    def draw(segments):
        ids = np.zeros((40, 50), dtype=np.int64)
        for segment in segments:
            y, x, h, w = rng.integers(0, 30), rng.integers(0, 40), *rng.integers(5, 25, 2)
            ids[y : y + h, x : x + w] = segment
        return ids

    images, sums = [], np.zeros((5, 4))
    sides = dict(truth=[], pred=[])
    for img_id in range(1, 9):
        truth = draw(rng.choice(70000, 6, replace=False) + 1)
        pred = np.where(rng.random() < 0.7, np.roll(truth, rng.integers(0, 3, 2), (0, 1)), draw([5, 6]))
        pred = np.where(draw([1]) > 0, draw([7, 8, 300]), pred)
        ids = [{int(i): int(rng.choice([1, 4, 7, 10])) for i in np.unique(truth) if i}]
        ids.append({int(i): ids[0].get(int(i), int(rng.choice([1, 7, 13]))) for i in np.unique(pred) if i})
        crowds = {i for i in ids[0] if rng.random() < 0.15}
        for category, values in panoptic_counts(truth, pred, *ids, crowds).items():
            sums[category // 3] += values
        images.append(dict(id=img_id, height=40, width=50, file_name=f'{img_id}.jpg'))
        for side, segments, categories_of in zip(sides, (truth, pred), ids, strict=True):
            (tmp_path / side).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / side / f'{img_id}.png'), id2rgb(segments)[..., ::-1])
            rows = [dict(id=i, category_id=c, iscrowd=int(i in crowds)) for i, c in categories_of.items()]
            for row in rows:
                row |= dict(area=int((segments == row['id']).sum()), bbox=[0, 0, 1, 1])
            sides[side].append(dict(image_id=img_id, file_name=f'{img_id}.png', segments_info=rows))
    for side, annotations in sides.items():
        content = dict(images=images, annotations=annotations, categories=categories)
        (tmp_path / f'{side}.json').write_text(json.dumps(content))
    peer = panoptic.PanopticEval(str(tmp_path / 'truth.json'), str(tmp_path / 'pred.json'))
    peer.evaluate()
    found = peer.results()['per_class']
    expected = np.array([[found[category['id']][key] for key in ('iou', 'tp', 'fp', 'fn')] for category in categories])
    assert (expected.sum(0) > 5).all()
    np.testing.assert_allclose(sums, expected, atol=1e-9)


def test_quality():
    quality = panoptic_quality(np.array([[1.6, 2, 1, 1], [0, 0, 0, 0], [0, 0, 2, 0]]))
    np.testing.assert_allclose(quality[0], [1.6 / 3, 0.8, 2 / 3])
    assert np.isnan(quality[1]).all() and quality[2].tolist() == [0, 0, 0]


@pytest.fixture
def project(tmp_path):
    """A picture of a cat (4 of 16 rows), a dog (4) and grass (8); the cat is found for half, the dog as a cat."""
    import cv2

    truth = np.repeat([256, 70000, 3], [4, 4, 8])[:, None].repeat(16, 1)
    cv2.imwrite(str(tmp_path / 'a.png'), id2rgb(truth)[..., ::-1])
    segments = [dict(id=256, category_id=10), dict(id=70000, category_id=20), dict(id=3, category_id=30)]
    content = dict(
        images=[dict(id=5)],
        annotations=[dict(image_id=5, file_name='a.png', segments_info=[dict(s, iscrowd=0) for s in segments])],
        categories=[dict(id=10 * (i + 1), name=name, isthing=int(i < 2)) for i, name in enumerate(META['classes'])],
    )
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    pred = torch.tensor(np.repeat([1000, 3, 2000, 2], [3, 1, 4, 8]))[:, None].repeat(1, 16)  # 3: no class
    sample = dict(
        img_id=5,
        img_path='img/a.jpg',
        ori_shape=(16, 16),
        pred_panoptic_seg=dict(sem_seg=pred[None]),
        seg_map_path=str(tmp_path / 'a.png'),
        segments_info=[dict(id=s['id'], category=s['category_id'] // 10 - 1) for s in segments],
    )
    return tmp_path, sample


@pytest.mark.parametrize('from_file', [True, False])
def test_metric(project, from_file):
    folder, sample = project
    source = dict(ann_file=str(folder / 'ann.json'), seg_prefix=str(folder)) if from_file else {}
    metric = CocoPanopticMetric(**source, classwise=True, outfile_prefix=str(folder / 'out'))
    metric.dataset_meta = META
    metric.process({}, [sample])
    numbers = metric.evaluate(1)
    # cat: one of IoU 3 / 4 and one false alarm; dog: missed; grass: exact
    expected = dict(PQ_th=(0.75 / 1.5 + 0) / 2, SQ_th=0.75 / 2, RQ_th=(1 / 1.5) / 2, PQ_st=1, SQ_st=1, RQ_st=1)
    expected |= dict(PQ=(0.5 + 0 + 1) / 3, SQ=(0.75 + 0 + 1) / 3, RQ=(1 / 1.5 + 0 + 1) / 3)
    assert numbers == {f'coco_panoptic/{name}': pytest.approx(100 * value) for name, value in expected.items()}
    written = json.loads((folder / 'out.panoptic.json').read_text())['annotations'][0]
    assert [s['area'] for s in written['segments_info']] == [8 * 16, 3 * 16, 4 * 16]
    assert (folder / 'out.panoptic' / 'a.png').is_file()


CITYSCAPES = (
    *('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'),
    *('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign'),
    *('vegetation', 'terrain', 'sky'),
)


def rows_of(text):
    return np.array([[int(c) for c in text]] * 4)


@pytest.mark.parametrize(
    ('truth', 'crowds', 'pred', 'quality'),
    [
        # ids of the truth are 1 and 2, cars; 3, a rider; 4, the road; 0 is void. Predicted are cars 1 and 2, rider 3,
        # road 4, void 0
        ('1112223344', (), '1112223344', (100, 100, 100)),
        ('1112223344', (), '0000000000', (0, 0, 0)),
        ('0000000000', (), '1112223344', (0, 0, 0)),  # on void nothing is wrong, but nothing is there either
        ('1111110044', (), '1112220044', (50, 0, 100)),  # two halves of a car: neither is it
        ('1111110044', (1,), '1112220044', (100, 0, 100)),  # of a crowd of cars: neither is wrong
        ('1111110044', (1,), '3333330044', (50, 0, 100)),  # but a rider there is
        ('1111110044', (1,), '0000000044', (100, 0, 100)),  # and no crowd is missed
        ('1112223344', (), '1112223300', (200 / 3, 100, 0)),
        # the rider is lost to the first car, whose IoU is 3 / 5: cars (3 / 5 + 3 / 3) / 2
        ('1112223344', (), '1112221144', ((80 + 0 + 100) / 3, 40, 100)),
    ],
)
@pytest.mark.parametrize('from_file', [True, False])
def test_cityscapes(tmp_path, truth, crowds, pred, quality, from_file):
    import cv2

    label = {1: CITYSCAPES.index('car'), 2: CITYSCAPES.index('car'), 3: CITYSCAPES.index('rider')}
    label[4] = CITYSCAPES.index('road')
    ids = rows_of(truth)
    cv2.imwrite(str(tmp_path / 'a.png'), id2rgb(ids)[..., ::-1])
    there = [i for i in label if (ids == i).any()]
    segments = [dict(id=i, category_id=label[i] + 100, iscrowd=int(i in crowds)) for i in there]
    content = dict(
        annotations=[dict(image_id='a', file_name='a.png', segments_info=segments)],
        categories=[dict(id=i + 100, name=name, isthing=int(i < 8)) for i, name in enumerate(CITYSCAPES)],
    )
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    table = np.array([len(CITYSCAPES)] + [label[i] + (i * INSTANCE_OFFSET if i < 4 else 0) for i in (1, 2, 3, 4)])
    sample = dict(
        img_id='a',
        ori_shape=ids.shape,
        pred_panoptic_seg=dict(sem_seg=table[rows_of(pred)]),
        seg_map_path=str(tmp_path / 'a.png'),
        segments_info=[dict(s, category=s['category_id'] - 100) for s in segments],
    )
    source = (str(tmp_path / 'ann.json'), str(tmp_path)) if from_file else ()
    metric = CocoPanopticMetric(*source)
    metric.dataset_meta = dict(classes=CITYSCAPES, thing_classes=CITYSCAPES[:8], stuff_classes=CITYSCAPES[8:])
    metric.process({}, [sample])
    found = metric.evaluate(1)
    assert [found[f'coco_panoptic/{key}'] for key in ('PQ', 'PQ_th', 'PQ_st')] == pytest.approx(quality)


def test_errors(project):
    folder, sample = project
    with pytest.raises(ValueError, match='seg_prefix'):
        CocoPanopticMetric(str(folder / 'ann.json'))
    with pytest.raises(ValueError, match='outfile_prefix'):
        CocoPanopticMetric(format_only=True)
    metric = CocoPanopticMetric(str(folder / 'ann.json'), str(folder))
    metric.dataset_meta = META
    with pytest.raises(ValueError, match='no image 6'):
        metric.process({}, [dict(sample, img_id=6)])


@pytest.fixture
def matched(tmp_path):
    """Two pictures: a thing found with an IoU of 3 / 4, and stuff that is missed beside a false thing."""
    import cv2

    def annotation(name, ids, categories):
        cv2.imwrite(str(tmp_path / name), id2rgb(np.array([ids]))[..., ::-1])
        return dict(file_name=name, segments_info=[dict(id=i, category_id=c) for i, c in categories.items()])

    return [
        (annotation('t1.png', [1, 1, 1, 1], {1: 7}), annotation('p1.png', [5, 5, 5, 0], {5: 7})),
        (annotation('t2.png', [2, 2, 2, 2], {2: 8}), annotation('p2.png', [6, 6, 6, 6], {6: 7})),
    ]


def test_quality_of_files(matched, tmp_path):
    categories = {7: dict(isthing=1), 8: dict(isthing=0), 9: dict(isthing=0)}
    folders = str(tmp_path), str(tmp_path)
    one = pq_compute_single_core(0, matched, *folders, categories, print_log=True)
    several = pq_compute_multi_core(matched, *folders, categories, nproc=2)
    for stat in (one, several):
        everything, by_category = stat.pq_average(categories)
        assert by_category[7] == pytest.approx(dict(pq=0.75 / 1.5, sq=0.75, rq=1 / 1.5)) and by_category[8]['pq'] == 0
        assert everything == pytest.approx(dict(pq=0.25, sq=0.375, rq=1 / 3, n=2)), 'category 9 does not occur'
        assert stat.pq_average(categories, isthing=True)[0] == pytest.approx(dict(pq=0.5, sq=0.75, rq=2 / 3, n=1))
    with pytest.raises(KeyError, match='unknown category 7'):
        pq_compute_single_core(0, matched, *folders, {8: dict(isthing=0)})
