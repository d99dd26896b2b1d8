import pickle

import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from mmdet.structures import DetDataSample, TrackDataSample

INSTANCES = ('proposals', 'gt_instances', 'ignored_instances', 'pred_instances', 'pred_track_instances')
PIXELS = ('gt_panoptic_seg', 'pred_panoptic_seg', 'gt_sem_seg', 'pred_sem_seg')


@pytest.mark.parametrize('name', INSTANCES + PIXELS)
def test_fields(name):
    kind, wrong = (InstanceData, PixelData) if name in INSTANCES else (PixelData, InstanceData)
    sample = DetDataSample(metainfo={'img_shape': (10, 20)})
    assert name not in sample and not hasattr(sample, name) and sample.get(name) is None
    with pytest.raises(AttributeError, match=name):
        getattr(sample, name)
    value = kind()
    setattr(sample, name, value)
    assert name in sample and getattr(sample, name) is value and sample.keys() == [name]
    assert name in repr(sample)
    with pytest.raises(AssertionError):
        setattr(sample, name, wrong())
    delattr(sample, name)
    assert name not in sample and sample.img_shape == (10, 20)


def test_conversions_reach_the_fields():
    sample = DetDataSample(gt_instances=InstanceData(labels=torch.ones(2, requires_grad=True)))
    assert not sample.detach().gt_instances.labels.requires_grad
    assert sample.to(torch.float64).gt_instances.labels.dtype == torch.float64
    assert sample.clone() is not sample and 'gt_instances' in sample.clone()


def test_pickle():
    """Samples travel from the loader's workers."""
    sample = DetDataSample(metainfo={'img_id': 3}, pred_instances=InstanceData(labels=torch.ones(2)))
    back = pickle.loads(pickle.dumps(sample))
    assert back.img_id == 3 and back.pred_instances.labels.tolist() == [1, 1] and back.keys() == ['pred_instances']


def test_video():
    frames = [DetDataSample(metainfo={'frame_id': i}) for i in range(3)]
    video = TrackDataSample(metainfo={'key_frames_inds': [0], 'ref_frames_inds': [1, 2]})
    assert len(video) == 0
    video.video_data_samples = frames
    assert len(video) == 3 and [frame.frame_id for frame in video] == [0, 1, 2]
    assert video.get_key_frames() == [frames[0]] and video.get_ref_frames() == frames[1:]
    assert len(video.cpu()) == 3 and video.cpu()[1] is not frames[1]
    with pytest.raises(TypeError, match='DetDataSample'):
        video.video_data_samples = []
    with pytest.raises(ValueError, match='key_frames_inds'):
        TrackDataSample(video_data_samples=frames).get_key_frames()
