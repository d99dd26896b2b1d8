"""What is found on a picture does not depend on the pictures that it is tested with."""

import copy

import pytest
import torch
from detectors_of_heads import detector

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample

pytestmark = pytest.mark.usefixtures('default_scope')

SHAPES = [(64, 96), (96, 64), (60, 90), (96, 96), (64, 96), (33, 96), (96, 64), (50, 50)]
HEADS = ['FCOSHead', 'FCOSHead center', 'ATSSHead', 'RepPointsHead', 'RetinaHead', 'RetinaSepBNHead', 'PAAHead']
HEADS += ['Mask', 'Cascade', 'HTC']


def batch(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=generator) for shape in shapes]
    samples = [
        DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=i))
        for i, shape in enumerate(shapes)
    ]
    return dict(inputs=pictures, data_samples=samples)


@torch.no_grad()
def scattered(name, **preprocessor):
    """A detector with scores that differ, as after training."""
    model = detector(name, **preprocessor)[0].eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in model.named_parameters():
        if value.dim() > 1 and 'head' in key:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
    return model


@torch.no_grad()
def found_alone(model, data):
    return [model.test_step({k: [copy.deepcopy(v[i])] for k, v in data.items()})[0] for i in range(len(SHAPES))]


@pytest.mark.parametrize('step', ['test_step', 'val_step'])
@pytest.mark.parametrize('name', HEADS)
@torch.no_grad()
def test_detections_are_those_of_the_picture_alone(name, step):
    model, data = scattered(name), batch(SHAPES)
    alone = found_alone(model, data)
    together = getattr(model, step)(data)
    assert [sample.img_id for sample in together] == list(range(len(SHAPES)))
    for one, other in zip(together, alone):
        a, b = one.pred_instances, other.pred_instances
        assert len(a) == len(b) > 0
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=0.01)
        assert torch.equal(a.labels, b.labels) and one.batch_input_shape == other.batch_input_shape
        if 'masks' in b:
            assert (a.masks != b.masks).float().mean() < 1e-4


def test_mixed_batches_are_an_option_that_has_a_price():
    data = batch(SHAPES)
    alone = found_alone(scattered('FCOSHead'), data)
    model = scattered('FCOSHead', mixed_test_sizes=True)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    mixed = model.test_step(data)
    assert seen == [(8, 3, 96, 96)]
    differs = [
        (a.pred_instances.scores[0] - b.pred_instances.scores[0]).abs() > 1e-4
        for a, b in zip(mixed, alone, strict=True)
    ]
    assert sum(differs) >= 4


def test_pictures_of_one_padded_size_stay_together():
    model, seen = scattered('ATSSHead'), []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    model.test_step(batch(SHAPES))
    # 60 x 90 is padded to 64 x 96, 33 x 96 to 48 x 96
    assert seen == [(3, 3, 64, 96), (2, 3, 96, 64), (1, 3, 96, 96), (1, 3, 48, 96), (1, 3, 64, 64)]


@pytest.mark.parametrize('as_tensor', [False, True])
def test_a_batch_of_one_size_is_not_taken_apart(as_tensor):
    model, seen, data = scattered('ATSSHead'), [], batch([(64, 96)] * 3)
    if as_tensor:
        data['inputs'] = torch.stack(data['inputs'])
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    assert len(model.test_step(data)) == 3 and seen == [(3, 3, 64, 96)]


@torch.no_grad()
def test_augmented_testing():
    data = batch(SHAPES)
    options = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
    model = DetTTAModel(options, module=scattered('FCOSHead'))
    augmented = {
        'inputs': [data['inputs'], [picture.flip(-1) for picture in data['inputs']]],
        'data_samples': [data['data_samples'], copy.deepcopy(data['data_samples'])],
    }
    for sample in augmented['data_samples'][1]:
        sample.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    together = model.test_step(copy.deepcopy(augmented))
    for i, one in enumerate(together):
        single = {key: [[value[i]] for value in versions] for key, versions in copy.deepcopy(augmented).items()}
        other = model.test_step(single)[0].pred_instances
        torch.testing.assert_close(one.pred_instances.scores, other.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.pred_instances.bboxes, other.bboxes, rtol=0, atol=0.01)
