"""InstaBoost against a stand-in for the package instaboostfast."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mmdet.registry import TRANSFORMS


def instance(box, ignore=0):
    return dict(bbox=box, bbox_label=2, mask=[[1.0, 2, 3, 4, 5, 6]], ignore_flag=ignore)


@pytest.fixture
def calls(monkeypatch):
    """What the package is asked for; it moves all to the right and takes the area of the first."""
    seen = []

    def get_new_data(anns, img, cfg, background):
        seen.append((anns, img.dtype, cfg))
        moved = [
            dict(ann, bbox=[x + 1, y, 0 if i == 0 else w, h])
            for i, ann in enumerate(anns)
            for x, y, w, h in [ann['bbox']]
        ]
        return moved, img + 1

    package = SimpleNamespace(InstaBoostConfig=lambda *args: args, get_new_data=get_new_data)
    monkeypatch.setitem(sys.modules, 'instaboostfast', package)
    return seen


def results(*instances):
    return dict(img=np.zeros((4, 5, 3), np.float32), img_shape=(4, 5), instances=list(instances))


def test_instances_move(calls):
    kept, ignored = instance([1, 1, 3, 4]), instance([0, 0, 1, 1], ignore=1)
    out = TRANSFORMS.build(dict(type='InstaBoost', aug_ratio=1.0, dx=7))(results(instance([0, 0, 2, 2]), ignored, kept))
    assert out['instances'] == [instance([2, 1, 4, 4]), ignored]
    assert out['img'].dtype == np.float32 and (out['img'] == 1).all() and out['img_shape'] == (4, 5)
    ((anns, dtype, cfg),) = calls
    assert [ann['bbox'] for ann in anns] == [[0, 0, 2, 2], [1, 1, 2, 3]] and dtype == np.uint8
    assert cfg == (('normal', 'horizontal', 'skip'), (1, 0, 0), (0.8, 1.2), 7, 15, (-1, 1), 0.5, False)


@pytest.mark.parametrize('sample', [results(), results(instance([0, 0, 2, 2]))])
def test_nothing_happens(calls, sample):
    out = TRANSFORMS.build(dict(type='InstaBoost', aug_ratio=1.0 if not sample['instances'] else 0.0))(sample)
    assert out is sample and not calls


def test_part_of_the_pictures(calls):
    np.random.seed(0)
    transform = TRANSFORMS.build(dict(type='InstaBoost'))
    for _ in range(100):
        transform(results(instance([0, 0, 2, 2])))
    assert 35 < len(calls) < 65


def test_masks_are_needed(calls):
    bare = {key: value for key, value in instance([0, 0, 2, 2]).items() if key != 'mask'}
    with pytest.raises(ValueError, match='needs a mask for each instance'):
        TRANSFORMS.build(dict(type='InstaBoost', aug_ratio=1.0))(results(bare))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'instaboostfast', None)
    with pytest.raises(ImportError, match=r'^InstaBoost needs instaboostfast: pip install instaboostfast'):
        TRANSFORMS.build(dict(type='InstaBoost'))
