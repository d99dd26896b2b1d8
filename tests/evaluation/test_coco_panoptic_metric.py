import json

import numpy as np
import pytest
import torch

from mmdet.evaluation import CocoPanopticMetric
from mmdet.evaluation.functional.panoptic import id2rgb, panoptic_counts, panoptic_quality, rgb2id

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
