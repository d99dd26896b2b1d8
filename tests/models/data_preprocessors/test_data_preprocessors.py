"""Batches as a detector takes them."""

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from mmdet.models.data_preprocessors import (
    BatchFixedSizePad,
    BatchResize,
    BatchSyncRandomResize,
    DetDataPreprocessor,
    MultiBranchDataPreprocessor,
    to_device,
)
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.windows import move_together


def sample(height=4, width=6, boxes=((0.0, 0.0, 2.0, 2.0),)):
    out = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)))
    tensor = torch.tensor(boxes).reshape(-1, 4)
    out.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(tensor),
        labels=torch.zeros(len(tensor), dtype=torch.long),
        masks=BitmapMasks(np.ones((len(tensor), height, width), np.uint8), height, width),
    )
    out.gt_sem_seg = PixelData(sem_seg=torch.ones(1, height, width, dtype=torch.long))
    return out


def test_normalises_then_pads():
    images = [torch.full((3, 4, 6), 10, dtype=torch.uint8), torch.full((3, 8, 2), 20, dtype=torch.uint8)]
    images[0][0] = 40  # blue of BGR
    preprocessor = DetDataPreprocessor(
        mean=[10, 10, 10], std=[2, 2, 5], bgr_to_rgb=True, pad_size_divisor=4, pad_value=7
    )
    out = preprocessor(dict(inputs=images, data_samples=[sample(), sample(8, 2)]), training=True)
    inputs, samples = out['inputs'], out['data_samples']
    assert inputs.shape == (2, 3, 8, 8) and inputs.dtype == torch.float32
    assert inputs[0, :, 0, 0].tolist() == [0, 0, 6] and inputs[1, :, 0, 0].tolist() == [5, 5, 2]
    assert (inputs[0, :, 4:] == 7).all() and (inputs[1, :, :, 2:] == 7).all()
    assert [s.pad_shape for s in samples] == [(4, 8), (8, 4)]
    assert [s.batch_input_shape for s in samples] == [(8, 8)] * 2
    assert isinstance(samples[0].gt_instances.bboxes, torch.Tensor)


@pytest.mark.parametrize('convert', [False, True])
@pytest.mark.parametrize('normalize', [False, True])
def test_equals_the_plain_formula(convert, normalize):
    images = [torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)]
    options = dict(mean=[1.5, 2.5, 3.5], std=[2.0, 3.0, 4.0]) if normalize else {}
    out = DetDataPreprocessor(bgr_to_rgb=convert, **options)(dict(inputs=images))
    want = images[0].flip(0).float() if convert else images[0].float()
    if normalize:
        want = (want - torch.tensor([1.5, 2.5, 3.5])[:, None, None]) / torch.tensor([2.0, 3.0, 4.0])[:, None, None]
    assert torch.equal(out['inputs'][0], want)
    assert out['data_samples'] is None


@pytest.mark.parametrize('sizes', [[(4, 8), (4, 8)], [(4, 8), (3, 5), (4, 2)], [(3, 5)]])
@pytest.mark.parametrize('convert', [False, True])
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_all_images_together_are_what_each_is(sizes, convert, normalize, dtype):
    """As devices prepare them that wait for the host to launch many small steps."""
    images = [torch.randint(0, 256, (3, *size)).to(dtype) for size in sizes]
    options = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]) if normalize else {}
    preprocessor = DetDataPreprocessor(bgr_to_rgb=convert, pad_value=3, **options)
    before = [image.clone() for image in images]
    found = preprocessor._normalized_together(images, (4, 8))
    assert found.dtype == torch.float32
    preprocessor.pad_size_divisor = 4
    expected = preprocessor.pad_batch(images)
    assert torch.equal(found[..., : expected.shape[-1]], expected) and all(map(torch.equal, images, before))
    if len(set(sizes)) == 1:
        assert torch.equal(preprocessor._normalized_together(torch.stack(images), (4, 8)), found)


def test_pads_masks_and_maps_in_training_alone():
    preprocessor = DetDataPreprocessor(pad_size_divisor=8, pad_mask=True, pad_seg=True, seg_pad_value=255)
    for training in (True, False):
        data = dict(inputs=[torch.zeros(3, 4, 6, dtype=torch.uint8)], data_samples=[sample()])
        found = preprocessor(data, training)['data_samples'][0]
        shape = (8, 8) if training else (4, 6)
        assert (found.gt_instances.masks.height, found.gt_instances.masks.width) == shape
        assert found.gt_sem_seg.sem_seg.shape[-2:] == shape
    assert not preprocessor.state_dict()


def test_refuses_what_is_no_image():
    with pytest.raises(ValueError, match='channels, height, width'):
        DetDataPreprocessor()(dict(inputs=[torch.zeros(4, 4)]))
    with pytest.raises(ValueError, match='4 channels'):
        DetDataPreprocessor(mean=[0, 0, 0], std=[1, 1, 1])(dict(inputs=[torch.zeros(4, 4, 4)]))


def test_instances_become_views_of_one_tensor():
    samples = [sample(), sample(boxes=()), sample(boxes=((1.0, 1, 2, 2), (0, 0, 3, 3)))]
    for one in samples:
        one.gt_instances.bboxes = one.gt_instances.bboxes.tensor
        del one.gt_instances.masks
    moved = to_device(samples, torch.device('meta'))
    assert [one.gt_instances.bboxes.shape for one in moved] == [(1, 4), (0, 4), (2, 4)]
    assert [one.gt_instances.labels.dtype for one in moved] == [torch.long] * 3
    assert moved[0].gt_instances.bboxes.device.type == 'meta'


def test_bitmaps_travel_together_as_windows(monkeypatch):
    from mmdet.models.data_preprocessors import data_preprocessor as module

    there = []
    monkeypatch.setattr(module, 'move_together', lambda *args: there.append(move_together(*args)) or there[0])
    samples = [sample(), sample(boxes=()), sample(8, 2)]
    for one in samples:
        one.gt_instances.bboxes = one.gt_instances.bboxes.tensor
        del one.gt_sem_seg
    moved = to_device(samples, torch.device('meta'))
    assert len(there) == 1
    windows = [one.gt_instances.masks.windows for one in moved]
    assert all(part.bits is there[0][0].bits and part.bits.device.type == 'meta' for part in windows)
    assert [len(part) for part in windows] == [1, 0, 1]


def test_fixed_size_pad():
    inputs, samples = BatchFixedSizePad((6, 10), img_pad_value=3, pad_mask=True, pad_seg=True)(
        torch.zeros(1, 3, 4, 6), [sample()]
    )
    assert inputs.shape == (1, 3, 6, 10) and (inputs[..., 6:] == 3).all()
    assert samples[0].pad_shape == samples[0].batch_input_shape == (6, 10)
    assert samples[0].gt_instances.masks.masks.shape == (1, 6, 10)
    larger = torch.zeros(1, 3, 8, 12)
    assert BatchFixedSizePad((6, 10))(larger, [])[0] is larger


def plain(height, width):
    one = sample(height, width)
    one.gt_instances.bboxes = one.gt_instances.bboxes.tensor
    one.set_metainfo(dict(pad_shape=(height, width)))
    return one


def test_sync_random_resize_is_a_function_of_the_iteration():
    hub = MessageHub.get_current_instance()
    resize = BatchSyncRandomResize((32, 96), interval=10)
    sizes = {}
    for iteration in (0, 9, 10, 19, 20, 30, 40, 15):
        hub.update_info('iter', iteration)
        inputs, samples = resize(torch.zeros(1, 3, 64, 64), [plain(64, 64)])
        size = sizes.setdefault(iteration // 10, tuple(inputs.shape[-2:]))
        assert tuple(inputs.shape[-2:]) == size  # whenever it is asked
        assert samples[0].gt_instances.bboxes[0, 2] == pytest.approx(2 * size[1] / 64)
        assert samples[0].img_shape == size or iteration < 10
    hub.update_info('iter', 0)
    assert sizes[0] == (64, 64) and len(set(sizes.values())) > 1
    assert all(side % 32 == 0 for size in sizes.values() for side in size)


def test_sync_random_resize_takes_masks_along():
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 1)
    one = plain(8, 8)
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, :4] = 1
    one.gt_instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 8, 4]]), masks=BitmapMasks(masks, 8, 8))
    inputs, samples = BatchSyncRandomResize((16, 16), interval=1, size_divisor=16)(torch.zeros(1, 3, 8, 8), [one])
    hub.update_info('iter', 0)
    found = samples[0].gt_instances
    assert inputs.shape[-2:] == (16, 16) and found.bboxes.tolist() == [[0, 0, 16, 8]]
    assert found.masks.masks.shape == (1, 16, 16) and found.masks.masks.sum(2).tolist() == [[16] * 8 + [0] * 8]


def test_batch_resize():
    inputs, samples = BatchResize((16, 8), pad_size_divisor=8)(torch.zeros(1, 3, 4, 6), [plain(4, 6)])
    assert inputs.shape[-2:] == (8, 16) and samples[0].img_shape == (8, 12)
    assert samples[0].scale_factor == (2.0, 2.0) and samples[0].gt_instances.bboxes[0].tolist() == [0, 0, 4, 4]


def test_branches_are_prepared_each_on_its_own(default_scope):
    preprocessor = MultiBranchDataPreprocessor(dict(type='DetDataPreprocessor', mean=[1] * 3, std=[2] * 3))
    one, two, three = (torch.full((3, side, 6), 5, dtype=torch.uint8) for side in (4, 8, 2))
    data = dict(
        inputs=dict(sup=[one, None, two], teacher=[None, three, None]),
        data_samples=dict(sup=[sample(4), None, sample(8)], teacher=[None, sample(2), None]),
    )
    out = preprocessor(data, training=True)
    assert {branch: tuple(images.shape) for branch, images in out['inputs'].items()} == dict(
        sup=(2, 3, 8, 6), teacher=(1, 3, 2, 6)
    )
    assert [s.batch_input_shape for s in out['data_samples']['sup']] == [(8, 6)] * 2
    assert out['data_samples']['teacher'][0].batch_input_shape == (2, 6)
    assert out['inputs']['teacher'].unique().tolist() == [2]
    plain = preprocessor(dict(inputs=[one, two], data_samples=[sample(4), sample(8)]))
    assert plain['inputs'].shape == (2, 3, 8, 6) and len(plain['data_samples']) == 2
    assert preprocessor.groups_of_one_size(dict(inputs=[one, two, one])) == [[0, 2], [1]]


def test_the_device_of_branches_is_that_of_the_preprocessor_inside(default_scope):
    preprocessor = MultiBranchDataPreprocessor(dict(type='DetDataPreprocessor', mean=[1] * 3, std=[2] * 3))
    assert preprocessor.to('meta') is preprocessor
    assert preprocessor.device == preprocessor.data_preprocessor.device == torch.device('meta')
    assert preprocessor.data_preprocessor.mean.is_meta
    holder = torch.nn.ModuleList([MultiBranchDataPreprocessor(dict(type='DetDataPreprocessor'))])
    assert holder[0].cpu() is holder[0] and holder[0].device == torch.device('cpu')
