"""Semantic segmentation: literal tables, random maps against sets of pixels, and what is refused."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from mmdet.evaluation import SemSegMetric
from mmdet.structures import DetDataSample

META = dict(classes=('road', 'grass', 'sky'))


def maps(text):
    return torch.tensor([[255 if c == '.' else int(c) for c in row] for row in text.split()])


def sample(pred, truth=None, path='a.jpg', **marks):
    out = DetDataSample(metainfo=dict(img_path=path, **marks))
    out.pred_sem_seg = PixelData(sem_seg=maps(pred)[None] if isinstance(pred, str) else pred)
    if truth is not None:
        out.gt_sem_seg = PixelData(sem_seg=(maps(truth)[None] if isinstance(truth, str) else truth).to(torch.uint8))
    return out


def evaluate(samples, meta=META, **options):
    evaluator = Evaluator(SemSegMetric(**options))
    evaluator.dataset_meta = meta
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


ONE = sample('0011 0022', '0001 0.11', img_id=0)
# Of the seven pixels that count, four are road and three grass; predicted are three of road, and two of grass and sky
# each. In both maps: road 3, grass 1; in any: road 4, grass 4, sky 2.


@pytest.mark.parametrize(
    ('options', 'numbers'),
    [
        ({}, dict(aAcc=4 / 7, mIoU=(3 / 4 + 1 / 4 + 0) / 3, mAcc=(3 / 4 + 1 / 3) / 2)),
        (dict(iou_metrics='mDice'), dict(aAcc=4 / 7, mDice=(6 / 7 + 2 / 5 + 0) / 3, mAcc=(3 / 4 + 1 / 3) / 2)),
        (
            dict(iou_metrics=['mFscore']),
            # precision 1, 1/2, 0; recall 3/4, 1/3 and none; F of the first two
            dict(aAcc=4 / 7, mFscore=(6 / 7 + 2 / 5) / 2, mPrecision=0.5, mRecall=(3 / 4 + 1 / 3) / 2),
        ),
        (
            dict(iou_metrics=['mFscore'], beta=2, nan_to_num=0),
            dict(aAcc=4 / 7, mFscore=(15 / 19 + 5 / 14) / 3, mPrecision=0.5, mRecall=(3 / 4 + 1 / 3) / 3),
        ),
    ],
)
def test_one_picture(options, numbers):
    assert evaluate([ONE], **options) == {key: round(100 * value, 2) for key, value in numbers.items()}


def test_nothing_there():
    found = evaluate([sample('00', '..')])
    assert all(np.isnan(value) for value in found.values())
    assert evaluate([sample('00', '..')], nan_to_num=-1)['mIoU'] == -100


def by_sets(pairs, classes):
    """Numbers by sets of pixels, as the definitions have them."""
    predicted, true = [set() for _ in range(classes)], [set() for _ in range(classes)]
    for number, (pred, truth) in enumerate(pairs):
        for place in np.ndindex(*truth.shape):
            if truth[place] != 255:
                true[truth[place]].add((number, *place))
                if pred[place] < classes:
                    predicted[pred[place]].add((number, *place))
    union = [p | t for p, t in zip(predicted, true)]
    iou = [len(p & t) / len(u) for p, t, u in zip(predicted, true, union) if u]
    right = sum(len(p & t) for p, t in zip(predicted, true)) / sum(map(len, true))
    return dict(mIoU=np.mean(iou) * 100, aAcc=right * 100)


@pytest.mark.parametrize('seed', range(3))
def test_random_pictures(seed):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(5):
        truth = rng.choice([0, 1, 2, 5, 255], (7, 9)).astype(np.uint8)
        pred = np.where(rng.random((7, 9)) < 0.6, truth, rng.integers(0, 7, (7, 9)))
        pairs.append((np.where(pred == 255, 4, pred), truth))
    samples = [
        sample(torch.tensor(pred)[None].int(), torch.tensor(truth)[None], f'{i}.jpg', img_id=i)
        for i, (pred, truth) in enumerate(pairs)
    ]
    meta = dict(classes=tuple('abcdef'))
    found = evaluate(samples, meta)
    for key, value in by_sets(pairs, 6).items():
        assert found[key] == pytest.approx(value, abs=0.0051), key
    again = evaluate([*samples, *samples[:2]], meta)  # what a sampler repeats does not count twice
    assert again == found


def test_parts_of_several_processes_are_summed():
    samples = [ONE, sample('11 02', '12 02', 'b.jpg', img_id=1), sample('2', '2', 'c.jpg', img_id=2)]
    whole, metric = evaluate(samples), SemSegMetric()
    metric.dataset_meta = META
    parts = []
    for part in (samples[::2], samples[1::2]):
        metric.process({}, [one.to_dict() for one in part])
        parts.append(metric.results)
        metric.results = []
    assert metric.compute_metrics([*parts[1], *parts[0]]) == whole


def test_files(tmp_path):
    samples = [sample('0011', path='x/a.jpg'), sample('2222', path='y/a.jpg')]
    assert evaluate(samples, output_dir=str(tmp_path), format_only=True) == {}
    files = sorted(tmp_path.rglob('*.png'))
    assert len(files) == 2
    rows = sorted(cv2.imread(str(file), cv2.IMREAD_UNCHANGED).tolist() for file in files)
    assert rows == [[[0, 0, 1, 1]], [[2, 2, 2, 2]]]
    evaluate([ONE], output_dir=str(tmp_path / 'more'))
    assert [file.name for file in (tmp_path / 'more').iterdir()] == ['a.png']


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        ([sample('0')], r'a\.jpg has no semantic map to compare with.*with_seg=True'),
        (
            [sample('00', '0')],
            r'a\.jpg: the predicted map is 2x1, the semantic map of the ground truth 1x1.*after Resize',
        ),
        ([sample('0', '7')], r'a\.jpg: its semantic map has the label 7, but the data set has 3 classes'),
        ([DetDataSample(metainfo=dict(img_path='a.jpg'))], 'predicted no semantic map'),
    ],
)
def test_what_cannot_be_compared(samples, message):
    with pytest.raises((ValueError, KeyError), match=message):
        evaluate(samples)


def test_arguments():
    with pytest.raises(ValueError, match='some of mIoU, mDice, mFscore'):
        SemSegMetric(iou_metrics=['IoU'])
    with pytest.raises(ValueError, match='output_dir must say where'):
        SemSegMetric(format_only=True)
    ignoring = sample('01', '03')
    assert evaluate([ignoring], ignore_index=3)['aAcc'] == 100
    ignoring.gt_sem_seg.set_metainfo(dict(ignore_index=3))
    assert evaluate([ignoring])['aAcc'] == 100
