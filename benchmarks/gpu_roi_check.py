"""RoIAlign of four levels by one kernel on a GPU beside torchvision's, level by level: errors and milliseconds.

    python benchmarks/gpu_roi_check.py

Half a minute, 10 GiB. Maps are those of 16 pictures of 800x1333 with 256 channels; regions are of 13 to 660 pixels.
"""

from __future__ import annotations

import torch
from gpu_timing import median_ms
from torch import Tensor

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.ops.roi_align_levels import roi_align_levels

SIDES, STRIDES, BATCH, CHANNELS = [(200, 334), (100, 167), (50, 84), (25, 42)], [4, 8, 16, 32], 16, 256
# data type, whether channels come last, regions of each picture, bins
CASES = [
    (torch.bfloat16, True, 512, 7),
    (torch.bfloat16, True, 1000, 7),
    (torch.bfloat16, True, 128, 14),
    (torch.float32, True, 512, 7),
    (torch.float32, False, 512, 7),
]


def regions(count: int) -> Tensor:
    total = BATCH * count
    side = torch.exp(torch.rand(total, 1, device='cuda') * 3.9 + 2.6)
    aspect = torch.exp((torch.rand(total, 1, device='cuda') - 0.5) * 1.4)
    half = torch.cat([side * aspect, side / aspect], 1) / 2
    limit = torch.tensor([1333.0, 800.0], device='cuda')
    center = torch.rand(total, 2, device='cuda') * limit
    low, high = (center - half).clamp(min=0), (center + half).minimum(limit)
    return torch.cat([torch.arange(BATCH, device='cuda').repeat_interleave(count)[:, None], low, high], 1)


def main() -> None:
    print(torch.cuda.get_device_name(), 'torch', torch.__version__)
    torch.manual_seed(0)
    for case in CASES:
        measure(*case)


def measure(dtype: torch.dtype, last: bool, count: int, bins: int) -> None:
    """Print the errors and the milliseconds of one case."""
    layout = torch.channels_last if last else torch.contiguous_format
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=bins, sampling_ratio=0), CHANNELS, STRIDES)
    rois = regions(count)
    levels = extractor.map_roi_levels(rois, 4)
    feats = [torch.randn(BATCH, CHANNELS, *side, device='cuda', dtype=dtype) for side in SIDES]
    feats = [feat.contiguous(memory_format=layout).requires_grad_() for feat in feats]
    scales = [1 / stride for stride in STRIDES]
    ours = lambda: roi_align_levels(feats, rois, levels, (bins, bins), scales)
    wide = [feat.detach().float().requires_grad_() for feat in feats]
    theirs = lambda maps: _by_torchvision(maps, rois, levels, scales, bins)
    found, want = ours(), theirs(wide)
    slope = torch.randn_like(want).to(dtype)
    grads = torch.autograd.grad(found, feats, slope, retain_graph=True)
    wanted = torch.autograd.grad(want, wide, slope.float())
    error = lambda a, b: ((a.float() - b).abs().max() / b.abs().max()).item()
    errors = error(found, want), max(map(error, grads, wanted))
    del grads, wanted, want, wide
    out = theirs(feats)
    with torch.no_grad():
        forward = median_ms(ours), median_ms(lambda: theirs(feats), 5)
    backward = [
        median_ms(lambda result=result: torch.autograd.grad(result, feats, slope, retain_graph=True), 5)
        for result in (found, out)
    ]
    print(
        f'{dtype} channels last: {last}, {BATCH} x {count}, {bins}x{bins}: relative error {errors[0]:.1e}, of the '
        f'gradients {errors[1]:.1e}; ms {forward[0]} (torchvision {forward[1]}), backward {backward[0]} '
        f'({backward[1]})',
        flush=True,
    )


def _by_torchvision(feats: list[Tensor], rois: Tensor, levels: Tensor, scales: list[float], bins: int) -> Tensor:
    from torchvision.ops import roi_align

    pooled = []
    for i, feat in enumerate(feats):
        here = (levels == i)[:, None]
        part = roi_align(feat.float(), torch.where(here, rois, 0.0), bins, scales[i], 0, True).to(feat.dtype)
        pooled.append(part * here[..., None, None])
    return sum(pooled[1:], pooled[0])


if __name__ == '__main__':
    main()
