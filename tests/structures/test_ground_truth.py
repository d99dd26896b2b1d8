"""What no loss may see, in batches of any data set and transform."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.ground_truth import check_ground_truth
from mmdet.structures.mask import BitmapMasks

GOOD = [1.0, 2.0, 5.0, 6.0]


def sample(boxes, labels=None, ignored=(), path='a.jpg', **fields):
    out = DetDataSample(metainfo=dict(img_path=path, img_id=3))
    labels = [0] * len(boxes) if labels is None else labels
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    out.gt_instances = InstanceData(bboxes=HorizontalBoxes(boxes), labels=torch.tensor(labels), **fields)
    ignored = torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4)
    out.ignored_instances = InstanceData(bboxes=ignored, labels=torch.zeros(len(ignored), dtype=torch.long))
    return out


@pytest.mark.parametrize(
    'wrong, words',
    [
        (sample([GOOD, [1, 2, float('nan'), 4]]), r'b.jpg: box 1 of its gt_instances is \[1.0, 2.0, nan, 4.0\]'),
        (sample([[1, 2, float('inf'), 4]]), r'b.jpg: box 0 of its gt_instances is \[1.0, 2.0, inf, 4.0\]'),
        (sample([[-1e20, 2, 3, 4]]), 'b.jpg: box 0 of its gt_instances'),
        (sample([GOOD], ignored=[[1, 2, float('nan'), 4]]), 'b.jpg: box 0 of its ignored_instances'),
        (sample([GOOD, GOOD], [0, -1]), 'b.jpg: box 1 has the label -1'),
        (sample([GOOD, GOOD], [0, 3]), 'b.jpg: box 1 has the label 3, but the model has the classes 0 to 2'),
    ],
)
def test_what_stops(wrong, words):
    wrong.set_metainfo(dict(img_path='b.jpg'))
    with pytest.raises(UserError, match=words):
        check_ground_truth([sample([GOOD]), wrong, sample([])], num_labels=3)


def test_boxes_without_area_are_taken_out_with_their_masks(caplog):
    masks = BitmapMasks(np.stack([np.full((8, 8), i % 2, np.uint8) for i in range(4)]), 8, 8).packed()
    boxes = [GOOD, [3, 3, 3, 6], [5, 5, 4, 6], [2, 2, 3, 3]]
    batch = [sample([GOOD]), sample(boxes, [0, 1, 2, 1], ignored=[[4, 4, 4, 4]], masks=masks)]
    assert check_ground_truth(batch, 3) == 2
    kept = batch[1].gt_instances
    assert kept.labels.tolist() == [0, 1] and kept.bboxes.tensor.tolist() == [GOOD, [2, 2, 3, 3]]
    assert kept.masks.to_ndarray()[:, 0, 0].tolist() == [0, 1]
    assert len(batch[0].gt_instances) == 1 and len(batch[1].ignored_instances) == 1


@pytest.mark.parametrize('batch', [[], [sample([])], [DetDataSample()], [sample([GOOD], [2])]])
def test_what_passes(batch):
    assert check_ground_truth(batch, 3) == 0


def test_what_lies_on_a_device_is_not_looked_at():
    from torch._subclasses.fake_tensor import FakeTensorMode

    wrong = sample([GOOD])
    with FakeTensorMode():
        boxes = torch.empty(1, 4, device='cuda')
    wrong.gt_instances = InstanceData(bboxes=boxes)
    assert check_ground_truth([wrong], 3) == 0


@pytest.mark.parametrize('needed, words', [(('bboxes',), 'with_bbox=True'), (('bboxes', 'masks'), 'with_mask=True')])
def test_what_no_transform_has_loaded(needed, words):
    bare = sample([GOOD])
    if len(needed) == 1:
        bare.gt_instances = InstanceData()
    with pytest.raises(UserError, match=f'a.jpg: its ground truth has no {needed[-1]}.*{words}'):
        check_ground_truth([bare], 1, needed)
    check_ground_truth([bare, sample([GOOD], masks=[0])], 1, needed)
