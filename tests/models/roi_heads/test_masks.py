"""Targets of mask heads, and masks pasted into images."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from fake_gpu import WaitingCopies
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import PaddedGT, RoISamples
from mmdet.models.core.masks import HostRegions, crop_masks, paste_batch, paste_masks, paste_rle, sampling_axis
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks, bitmaps_of, encode_mask_results


def test_paste_covers_the_box():
    masks = torch.ones(2, 4, 4)
    boxes = torch.tensor([[2.0, 1.0, 6.0, 5.0], [-3.0, -3.0, 4.0, 2.0]])
    pasted = paste_masks(masks, boxes, (8, 10), 0.5)
    assert pasted.dtype == torch.bool
    want = np.zeros((2, 8, 10), bool)
    want[0, 1:5, 2:6] = True
    want[1, 0:2, 0:4] = True
    assert np.array_equal(pasted.numpy(), want)


def test_paste_keeps_probabilities_at_a_negative_threshold():
    pasted = paste_masks(torch.full((1, 2, 2), 0.5), torch.tensor([[0.0, 0, 4, 4]]), (4, 4), -1)
    assert pasted.dtype == torch.uint8 and pasted[0, 1, 1] == 127


def test_paste_of_nothing_and_of_empty_boxes():
    assert paste_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), (5, 6), 0.5).shape == (0, 5, 6)
    assert not paste_masks(torch.ones(1, 4, 4), torch.tensor([[3.0, 3, 3, 3]]), (8, 8), 0.5).any()


def test_sampling_axis():
    axis = sampling_axis(torch.tensor([2.0]), torch.tensor([6.0]), 0, 8)
    assert axis[0].tolist() == pytest.approx([-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75])


def test_windows_of_the_cpu_equal_whole_images():
    """What other devices do in parts of a budget, and the CPU in windows, pixel by pixel."""
    from mmdet.models.core import masks as module

    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 28, 28, generator=generator)
    corner = torch.rand(6, 2, generator=generator) * 60 - 10
    boxes = torch.cat([corner, corner + torch.rand(6, 2, generator=generator) * 50], 1)
    by_window = paste_masks(masks, boxes, (64, 80), 0.5)
    for part in (1, 4, 6):
        whole = [
            module._sample(masks[i : i + part], boxes[i : i + part], (0, 64), (0, 80)) >= 0.5 for i in range(0, 6, part)
        ]
        assert torch.equal(by_window, torch.cat(whole))


def detections(count=9):
    """Small masks and boxes within, around and beside an image of 61 x 150, one of them without extent."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(count, 28, 28, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([150.0, 60.0]) - 10
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 80], 1)
    boxes[0] = torch.tensor([0.0, 0, 150, 61])
    boxes[1, 2], boxes[2] = boxes[1, 0], torch.tensor([500.0, 500, 520, 530])
    return masks, boxes


def test_run_length_codes_are_those_of_whole_masks():
    masks, boxes = detections()
    shapes = [(61, 150), (80, 90)]
    codes = paste_rle(masks, boxes, [7, 2], shapes, 0.5)
    want = [paste_masks(masks[:7], boxes[:7], shapes[0], 0.5), paste_masks(masks[7:], boxes[7:], shapes[1], 0.5)]
    assert [len(part) for part in codes] == [7, 2]
    for part, whole in zip(codes, want):
        assert part == encode_mask_results(whole)
        assert np.array_equal(bitmaps_of(part), whole.numpy())
    assert paste_rle(masks[:0], boxes[:0], [0], shapes[:1], 0.5) == [[]]
    with pytest.raises(ValueError, match='at least 0'):
        paste_rle(masks, boxes, [9], shapes[:1], -1)


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('threshold', [0.5, -1])
def test_masks_of_several_images_are_pasted_as_those_of_each(threshold, device):
    masks, boxes = detections()
    counts, shapes = [4, 0, 5], [(61, 150), (10, 10), (80, 91)]
    pasted = paste_batch(masks.to(device), boxes.to(device), counts, shapes, threshold)
    for part, mask, box, shape in zip(pasted, masks.split(counts), boxes.split(counts), shapes):
        want = paste_masks(mask, box, shape, threshold)
        assert part.shape == want.shape and part.dtype == want.dtype
        differ = part.cpu().int() - want.int()
        assert not differ.abs().gt(1).any() and differ.count_nonzero() <= differ.numel() * 1e-3


@pytest.mark.usefixtures('default_scope')
def test_a_mask_head_gives_tensors_or_codes():
    masks, boxes = detections(5)
    logits, metas = (
        (masks[:, None] * 4 - 2).repeat(1, 3, 1, 1),
        [dict(ori_shape=(61, 150), scale_factor=(1.0, 1.0))] * 2,
    )

    def predict(head=None, **options):
        results = [
            InstanceData(bboxes=b.clone(), labels=torch.zeros(len(b), dtype=torch.long)) for b in boxes.split([5, 0])
        ]
        cfg = ConfigDict(mask_thr_binary=0.5, **options)
        return (head or mask_head()).predict_by_feat(logits.split([5, 0]), results, metas, cfg, rescale=True)

    first, none = predict()
    assert first.masks.shape == (5, 61, 150) and none.masks.shape == (0, 61, 150)
    assert first.masks.dtype == none.masks.dtype == torch.bool
    coded, nothing = predict(mask_format='rle')
    assert coded.masks == encode_mask_results(first.masks) and nothing.masks == []
    with pytest.raises(ValueError, match="'rle'"):
        predict(mask_format='RLE')

    class Own(FCNMaskHead):
        def _predict_by_feat_single(self, mask_preds, bboxes, labels, img_meta, *args, **kwargs):
            return torch.ones(len(bboxes), *img_meta['ori_shape'], dtype=torch.bool)

    coded, nothing = predict(Own(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3), mask_format='rle')
    assert coded.masks == encode_mask_results(torch.ones(5, 61, 150)) and nothing.masks == []
    own, empty = predict(Own(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3))
    assert own.masks.all() and empty.masks.shape == (0, 61, 150)


def test_targets_are_cut_out_of_the_right_mask():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :4], masks[1, :, :4] = 1, 1
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]]])
    targets = crop_masks(
        boxes, torch.tensor([[1, 0, 0]]), torch.tensor([[True, True, False]]), [BitmapMasks(masks, 8, 8)],
        dict(mask_size=2),
    )  # fmt: skip
    assert targets[0].tolist() == [[[1, 0], [1, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]]


SHAPES = [(60, 83), (71, 64), (50, 50)]
CFG = dict(mask_size=(14, 7))


def bitmaps(count, shape, seed=0):
    """Noise within some box of the image; the first reaches its lower right corner, the last has no pixel."""
    rng = np.random.RandomState(seed)
    masks = np.zeros((count, *shape), np.uint8)
    for i, mask in enumerate(masks[:-1]):
        low = (rng.rand(2) * shape * 0.6).astype(int)
        high = np.array(shape) if i == 0 else low + 1 + (rng.rand(2) * (np.array(shape) - low)).astype(int)
        place = mask[low[0] : high[0], low[1] : high[1]]
        place[:] = rng.rand(*place.shape) > 0.3
    return BitmapMasks(masks, *shape)


def slots(counts, num=12, seed=0):
    """Regions around an image's size, some beyond it, some on whole pixels; ground truths and which are positive."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(len(counts), num, 2, generator=generator) * 60 - 10
    boxes = torch.cat([corner, corner + torch.rand(len(counts), num, 2, generator=generator) * 50], -1)
    boxes[:, ::3] = boxes[:, ::3].round()
    inds = torch.stack([torch.randint(0, max(n, 1), (num,), generator=generator) for n in counts])
    pos = torch.rand(len(counts), num, generator=generator) > 0.2
    return boxes, inds, pos & (torch.tensor(counts)[:, None] > 0)


@pytest.mark.parametrize('soft', [False, True])
def test_targets_of_windows_are_those_of_whole_bitmaps(soft):
    """Bit for bit what ``crop_and_resize`` reads out of the whole picture."""
    cfg = dict(CFG, soft_mask_target=soft)
    counts = [5, 2, 0]
    whole = [bitmaps(n, shape, n) if n else BitmapMasks([], *shape) for n, shape in zip(counts, SHAPES)]
    boxes, inds, pos = slots(counts)
    want = torch.zeros(*pos.shape, *CFG['mask_size'])
    for b, masks in enumerate(whole):
        for s in pos[b].nonzero().flatten().tolist():
            region = boxes[b, s : s + 1].clone().clamp(min=0)
            region = region.minimum(torch.tensor([masks.width, masks.height] * 2))
            cut = masks.crop_and_resize(region, CFG['mask_size'], inds[b, s : s + 1], binarize=not soft)
            want[b, s] = torch.from_numpy(cut.to_ndarray()).float()[0]
    kinds = {
        'whole': whole,
        'packed': [masks.packed() for masks in whole],
        'bool': [BitmapMasks(masks.masks.astype(bool), masks.height, masks.width) for masks in whole],
        'tensors': [torch.from_numpy(masks.masks) for masks in whole],
        'mixed': [whole[0].packed(), torch.from_numpy(whole[1].masks).float(), whole[2]],
        'other values': [BitmapMasks(masks.masks.astype(np.float32), masks.height, masks.width) for masks in whole],
    }
    assert 0 < want.mean() < 1
    for kind, masks in kinds.items():
        assert torch.equal(crop_masks(boxes, inds, pos, masks, cfg), want), kind


def test_polygons_are_drawn_in_the_size_of_the_target():
    polygons, others = PolygonMasks.random(4, 60, 83, rng=0), bitmaps(3, (71, 64))
    boxes, inds, pos = slots([4, 3])
    boxes = boxes.clamp(0, 60)
    mixed = crop_masks(boxes, inds, pos, [polygons, others], CFG)
    alone = crop_masks(boxes[:1], inds[:1], pos[:1], [polygons], CFG)
    assert torch.equal(mixed[:1], alone)
    assert torch.equal(mixed[1:], crop_masks(boxes[1:], inds[1:], pos[1:], [others], CFG))
    for s in pos[0].nonzero().flatten().tolist():
        drawn = polygons.crop_and_resize(boxes[0, s : s + 1], CFG['mask_size'], inds[0, s : s + 1]).to_ndarray()
        assert np.array_equal(mixed[0, s].numpy(), drawn[0])
    assert mixed[0].any()


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_polygons_are_drawn_for_regions_that_were_sent_to_the_host_before(device):
    polygons, others = PolygonMasks.random(4, 60, 83, rng=0), bitmaps(3, (71, 64))
    boxes, inds, pos = slots([4, 3])
    want = crop_masks(boxes, inds, pos, [polygons, others], CFG)
    data = [value.to(device) for value in (boxes, inds, pos)]
    for kinds, images in (([polygons, others], slice(2)), ([polygons], slice(1))):
        part = [value[images] for value in data]
        assert crop_masks(*part, kinds, CFG, HostRegions(*part)).cpu().equal(want[images])


KERNEL = """
import torch
from test_masks import SHAPES, bitmaps, detections, paste_masks, slots
from mmdet.ops.crop_windows import _mask_by_mask
from mmdet.ops.mask_kernels import TILE, crop, paste
masks = bitmaps(5, SHAPES[0])
windows = masks.packed().windows
boxes, inds, pos = (value[0] for value in slots([5], num=40))
boxes = boxes.clamp(0, 60)
shapes = torch.tensor([SHAPES[0]], dtype=torch.int32).repeat(40, 1)
for size in ((28, 28), (5, 1)):
    args = windows.bits, windows.table[inds[: len(boxes)]], shapes, boxes, pos, *size
    assert torch.equal(crop(*args), _mask_by_mask(*args)), size

masks, boxes = detections()
height, width = 61, 150
places = torch.tensor([(i * height * width, height, width) for i in range(len(masks))])
tiles = -(-height // TILE[0]) * -(-width // TILE[1])
for threshold in (0.5, -1.0):
    pasted = paste(masks, boxes, places, len(masks) * height * width, tiles, threshold).view(-1, height, width)
    assert (pasted.int() - paste_masks(masks, boxes, (height, width), threshold).int()).abs().max() <= (threshold < 0)

from mmdet.models.core import masks as module
batch = masks, boxes, [len(masks) - 1, 0, 1], [(61, 150), (9, 9), (40, 30)], 0.5
want = module.paste_batch(*batch)
module._has_kernels = lambda x: True
for found, expected in zip(module.paste_batch(*batch), want, strict=True):
    assert torch.equal(found, expected)
"""


def test_the_kernels_in_the_interpreter(interpret):
    interpret(KERNEL)


def mask_samples(boxes, inds, pos, gt):
    others = dict(gt_boxes=torch.zeros_like(boxes), gt_labels=torch.zeros_like(inds), is_gt=torch.zeros_like(pos))
    return RoISamples(
        boxes=boxes, valid=pos, pos=pos, gt_inds=inds, num_pos_slots=pos.shape[1], packed=False, gt=gt, **others
    )


def mask_head():
    return MODELS.build(dict(type='FCNMaskHead', num_convs=1, in_channels=4, conv_out_channels=4, num_classes=3))


@pytest.mark.usefixtures('_fake_gpu', 'default_scope')
def test_the_host_does_not_wait_for_the_mask_loss():
    packed = [bitmaps(n, shape).packed() for n, shape in zip((4, 2), SHAPES)]
    head = mask_head()
    with FakeTensorMode(allow_non_fake_inputs=True):
        boxes = torch.empty(2, 12, 4, device='cuda')
        inds, pos = (torch.empty(2, 12, dtype=kind, device='cuda') for kind in (torch.long, torch.bool))
        gt_instances = [
            InstanceData(
                bboxes=torch.empty(len(masks), 4, device='cuda'),
                labels=torch.empty(len(masks), dtype=torch.long, device='cuda'),
                masks=masks.to('cuda'),
            )
            for masks in packed
        ]
        samples = mask_samples(boxes, inds, pos, PaddedGT.from_instances(gt_instances))
        preds = torch.empty(24, 3, 28, 28, device='cuda', requires_grad=True)
        with WaitingCopies() as copies:
            found = head.loss_and_target(preds, samples, gt_instances, dict(mask_size=28))
    assert found['mask_targets'].device.type == 'cuda' and found['mask_targets'].shape == (24, 28, 28)
    assert not copies.found


@pytest.mark.gpu
def test_a_gpu_cuts_the_targets_of_the_cpu_without_a_wait():
    masks = [bitmaps(n, shape, n) for n, shape in zip((5, 2), SHAPES)]
    boxes, inds, pos = slots([5, 2], num=50)
    want = crop_masks(boxes, inds, pos, masks, dict(mask_size=28))
    on_gpu = [value.cuda() for value in (boxes, inds, pos)]
    packed = [m.packed().to('cuda') for m in masks]
    crop_masks(*on_gpu, packed, dict(mask_size=28))
    torch.cuda.set_sync_debug_mode('error')
    try:
        got = crop_masks(*on_gpu, packed, dict(mask_size=28))
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert torch.equal(got.cpu(), want)


PASTE = """
import resource, torch
from mmdet.models.core.masks import HostRegions, paste_masks
masks = torch.rand(100, 28, 28)
corner = torch.rand(100, 2) * torch.tensor([900., 500.])
boxes = torch.cat([corner, corner + torch.rand(100, 2) * 300 + 50], 1)
paste_masks(masks[:1], boxes[:1], (80, 133), 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = paste_masks(masks, boxes, (800, 1333), 0.5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not hasattr(resource, 'getrusage'), reason='needs getrusage')
def test_pasting_100_masks_needs_little_memory():
    done = subprocess.run([sys.executable, '-c', PASTE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600 * 1024  # KiB
