import numpy as np
import pytest
import torch

from mmdet.datasets.transforms import MultiBranch, PackDetInputs, Transpose, WrapFieldsToLists
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes


@pytest.mark.parametrize('flags', [[0, 0, 0], [0, 1, 0], [1, 1, 1], None])
@pytest.mark.parametrize('masks', [None, 'bitmap', 'polygon'])
def test_ignored_instances(sample, flags, masks):
    results = sample(masks=masks, keypoints=True)
    results.pop('gt_ignore_flags')
    if flags is not None:
        results['gt_ignore_flags'] = np.array(flags, dtype=bool)
    packed = PackDetInputs()(results)
    data_sample = packed['data_samples']
    assert isinstance(data_sample, DetDataSample)
    ignored = np.array(flags or [0, 0, 0], dtype=bool)
    assert data_sample.gt_instances.labels.tolist() == np.arange(3)[~ignored].tolist()
    assert isinstance(data_sample.gt_instances.bboxes, HorizontalBoxes)
    assert data_sample.gt_instances.keypoints.shape == ((~ignored).sum(), 5, 2)
    assert data_sample.gt_instances.keypoints_visible.shape == ((~ignored).sum(), 5)
    if flags is not None:
        assert data_sample.ignored_instances.labels.tolist() == np.arange(3)[ignored].tolist()
        assert len(data_sample.ignored_instances.bboxes) == ignored.sum()
    if masks:
        assert len(data_sample.gt_instances.masks) == (~ignored).sum()


def test_metainfo_and_image(sample):
    results = sample(scale_factor=(1.0, 1.0), flip=False, other=3, gt_seg_map=np.ones((60, 80), np.uint8))
    results |= dict(proposals=np.ones((2, 4), np.float32), proposals_scores=np.ones(2, np.float32), ignore_index=255)
    packed = PackDetInputs()(results)
    assert packed['inputs'].shape == (3, 60, 80) and packed['inputs'].dtype == torch.uint8
    assert np.array_equal(packed['inputs'].permute(1, 2, 0).numpy(), results['img'])
    data_sample = packed['data_samples']
    expected = {'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip'}
    assert set(data_sample.metainfo_keys()) == expected
    assert data_sample.proposals.bboxes.shape == (2, 4)
    assert data_sample.gt_sem_seg.sem_seg.shape == (1, 60, 80)
    assert data_sample.gt_sem_seg.ignore_index == 255
    assert PackDetInputs(meta_keys=('other',))(sample(other=3))['data_samples'].other == 3


@pytest.mark.parametrize(
    'change',
    [lambda img: img[:, ::-1], lambda img: img[10:20, 5:30], lambda img: img[..., 0]],
    ids=['flip', 'crop', 'grey'],
)
def test_images_of_any_layout(sample, change):
    results = sample()
    results['img'] = change(results['img'])
    expected = np.atleast_3d(results['img']).transpose(2, 0, 1)
    assert np.array_equal(PackDetInputs()(results)['inputs'].numpy(), expected)


def test_branches(sample, default_scope):
    branch = MultiBranch(['sup', 'teacher', 'student'], sup=dict(type='PackDetInputs'))
    packed = branch(sample())
    assert packed['inputs']['sup'].shape == (3, 60, 80)
    assert packed['inputs']['teacher'] is None and packed['data_samples']['student'] is None
    both = MultiBranch(
        ['a', 'b'], a=[dict(type='PackDetInputs')], b=[dict(type='FilterAnnotations', min_gt_bbox_wh=(99, 9))]
    )
    assert both(sample()) is None
    other = MultiBranch(['sup'], unsup=dict(type='PackDetInputs'))(sample())
    assert other['inputs']['sup'] is None and other['inputs']['unsup'].shape == (3, 60, 80)


def test_small_ones():
    assert Transpose(['a'], [1, 0])(dict(a=np.zeros((2, 3))))['a'].shape == (3, 2)
    assert WrapFieldsToLists()(dict(a=1)) == dict(a=[1])
