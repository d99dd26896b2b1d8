"""RoIAlign of all levels by one kernel gives what torchvision gives level by level."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align as torchvision_roi_align

from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from mmdet.ops import RoIAlign
from mmdet.ops.roi_align_levels import has_kernel, roi_align_levels

SCALES = [1 / 4, 1 / 8, 1 / 16]
CASES = [
    # samples of a bin and axis, aligned, bins, channels last, data type
    (0, True, (1, 3), True, torch.float32),
    (0, False, (2, 1), False, torch.float32),
    (2, True, (2, 1), False, torch.float32),
    (3, False, (1, 2), True, torch.float32),
    (0, True, (1, 2), True, torch.bfloat16),
    (1, True, (2, 2), False, torch.float16),
]


def case(last, dtype, channels=5, device='cpu', count=0):
    """Maps, regions and their levels; of the first regions each is special in its own way."""
    generator = torch.Generator().manual_seed(channels)
    layout = torch.channels_last if last else torch.contiguous_format
    feats = [torch.randn(2, channels, side, side + 3, generator=generator) for side in (16, 8, 4)]
    feats = [feat.to(device, dtype).contiguous(memory_format=layout).requires_grad_() for feat in feats]
    boxes = [
        [0, 0, 0, 0],
        [20, 20, 20, 40],  # no width
        [-30, -9, 20, 30],
        [50, 40, 90, 200],
        [100, 100, 130, 140],  # outside
        [-300, -50, 400, 100],  # more samples than cells
        [4, 8, 36, 56],
        [2.5, 3, 70.5, 31],
        [10, 10, 20, 20],
        [torch.nan, 10, 20, 20],  # of no level
    ]
    levels = [0, 0, 1, 1, 0, 2, 1, 2, 0, -1]
    more = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat(
        [torch.tensor(boxes), torch.cat([more, more + torch.rand(count, 2, generator=generator) * 40], 1)]
    )
    levels = torch.tensor([*levels, *torch.randint(0, 3, (count,), generator=generator).tolist()])
    rois = torch.cat([(torch.arange(len(boxes)) % 2)[:, None], boxes], 1)
    return feats, rois.to(device), levels.to(device)


def expected(feats, rois, levels, size, ratio, aligned):
    """By torchvision in double precision, level by level, with gradients of a weighted sum."""
    feats = [feat.detach().cpu().double().requires_grad_() for feat in feats]
    out = feats[0].new_zeros(len(rois), feats[0].shape[1], *size)
    for i, (feat, scale) in enumerate(zip(feats, SCALES)):
        rows = (levels.cpu() == i).nonzero()[:, 0]
        part = torchvision_roi_align(feat, rois.cpu()[rows].double(), size, scale, ratio, aligned)
        out = out.index_copy(0, rows, part)
    (out * weights(out)).sum().backward()
    return out.detach(), [feat.grad for feat in feats]


def weights(out):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-8, 9, out.shape, generator=generator).to(out)  # which half precision holds, too


def assert_equal_to_torchvision(feats, rois, levels, size, ratio, aligned):
    want, grads = expected(feats, rois, levels, size, ratio, aligned)
    out = roi_align_levels(feats, rois, levels, size, SCALES, ratio, aligned)
    tolerance = dict(rtol=1e-5, atol=1e-4) if out.dtype == torch.float32 else dict(rtol=1e-2, atol=2e-2)
    last = feats[0].is_contiguous(memory_format=torch.channels_last)
    assert out.dtype == feats[0].dtype
    assert out.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    torch.testing.assert_close(out.detach().cpu().double(), want, **tolerance)
    (out * weights(out)).sum().backward()
    for feat, grad in zip(feats, grads):
        assert feat.grad.dtype == feat.dtype and feat.grad.stride() == feat.stride()
        torch.testing.assert_close(feat.grad.cpu().double(), grad, **tolerance)


INTERPRETED = """
import torch
from mmdet.models.roi_heads.roi_extractors import base_roi_extractor
from mmdet.ops.roi_align_levels import pool_levels
from test_roi_align_levels import CASES, SCALES, assert_equal_to_torchvision, case, extractors
for ratio, aligned, size, last, dtype in CASES:
    assert_equal_to_torchvision(*case(last, dtype), size, ratio, aligned)
feats, rois, levels = case(True, torch.float32, 1)
torch.library.opcheck(pool_levels, (feats, rois[6:8], levels[6:8], [1, 2], SCALES, 1, True))
base_roi_extractor.has_kernel = lambda feats: True
for extractor in extractors():
    found = extractor(feats, rois[:9])
    base_roi_extractor.has_kernel, kernel = lambda feats: False, base_roi_extractor.has_kernel
    torch.testing.assert_close(found, extractor(feats, rois[:9]))
    base_roi_extractor.has_kernel = kernel
"""


def extractors():
    layer = dict(type='RoIAlign', output_size=(1, 2), sampling_ratio=1)
    yield SingleRoIExtractor(layer, 1, [4, 8, 16], finest_scale=16)
    yield GenericRoIExtractor(roi_layer=layer, out_channels=1, featmap_strides=[4, 8, 16])


def test_the_kernels_in_the_interpreter(interpret):
    pytest.importorskip('triton', minversion='3.3')
    interpret(INTERPRETED)


class Operators(TorchDispatchMode):
    """Names of the operators that pool."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ('mmdet', 'torchvision'):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class OwnLayer(RoIAlign):
    """As research code registers one."""


def pooled_on_a_fake_gpu(extractor, dtype=torch.bfloat16):
    """Names of the operators by which an extractor pools there."""
    with FakeTensorMode(), Operators() as operators:
        feats, rois, _ = case(True, dtype)
        out = extractor([feat.to('cuda') for feat in feats], rois.to('cuda'))
        assert out.dtype == dtype and out.shape == (10, 5, 1, 2)
    return operators.found


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('index', [0, 1])
def test_extractors_pool_all_levels_at_once_on_a_gpu(index):
    pytest.importorskip('triton', minversion='3.3')
    extractor = list(extractors())[index]
    assert pooled_on_a_fake_gpu(extractor) == ['mmdet.pool_levels.default']


@pytest.mark.usefixtures('_fake_gpu')
def test_other_layers_pool_level_by_level():
    extractor = next(extractors())
    extractor.roi_layers[1] = OwnLayer((1, 2), 1 / 8, 1)
    pytest.importorskip('triton', minversion='3.3')
    found = pooled_on_a_fake_gpu(extractor, torch.float32)
    assert found.count('mmdet.pool_levels.default') == 3  # each layer for itself


@pytest.mark.usefixtures('_fake_gpu')
def test_where_results_must_repeat_the_kernel_is_not_used():
    pytest.importorskip('triton', minversion='3.3')
    with FakeTensorMode():
        feats = [feat.to('cuda') for feat in case(True, torch.float32)[0]]
    assert has_kernel(feats) and not has_kernel([feat.double() for feat in feats])
    assert not has_kernel(case(True, torch.float32)[0])
    torch.use_deterministic_algorithms(True)
    try:
        assert not has_kernel(feats)
    finally:
        torch.use_deterministic_algorithms(False)


def test_regions_keep_their_digits_beside_half_precision():
    """Sides of 201 to 207 pixels are all 204 or 208 in bfloat16."""
    extractor = next(extractors())
    feats = [torch.rand(1, 1, side, side) for side in (64, 32, 16)]
    rois = torch.tensor([[0, 33.0, 33, 234, 236], [0, 33, 33, 235, 240]])
    want = extractor(feats, rois)
    found = extractor([feat.bfloat16() for feat in feats], rois)
    torch.testing.assert_close(found.float(), want, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize('channels', [5, 256, 320])
@pytest.mark.parametrize('ratio, aligned, size, last, dtype', [*CASES, (0, True, (7, 7), True, torch.bfloat16)])
def test_the_kernels_on_a_gpu(ratio, aligned, size, last, dtype, channels):
    assert_equal_to_torchvision(*case(last, dtype, channels, 'cuda', 40), size, ratio, aligned)


@pytest.mark.gpu
def test_extractors_on_a_gpu():
    feats, rois, _ = case(True, torch.float32, 1)
    rois = rois[:-1]  # torchvision must not see what is not a number
    on_gpu = [feat.detach().cuda() for feat in feats]
    for extractor in extractors():
        torch.testing.assert_close(extractor(on_gpu, rois.cuda()).cpu(), extractor(feats, rois))
        assert extractor(on_gpu, rois[:0].cuda()).shape == (0, 1, 1, 2)


@pytest.mark.gpu
def test_the_host_does_not_wait():
    feats, rois, levels = case(True, torch.bfloat16, 8, 'cuda')
    call = lambda: roi_align_levels(feats, rois, levels, (7, 7), SCALES).sum().backward()
    call()
    torch.cuda.set_sync_debug_mode('error')
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode('default')
