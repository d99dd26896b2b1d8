"""Deformable attention on a GPU: by its kernel and by grid_sample, how far apart, how long and how much memory.

    python benchmarks/gpu_deformable_check.py [--batch 4] [--out FILE.json]

Under a minute. Places lie on rays around the cells, or around random points, as in a network that has trained. The
slopes of places are not compared: where rounding moves one over the border of a cell, its slope is another.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import torch
from gpu_timing import median_ms
from torch import Tensor

from mmdet.ops import multi_scale_deform_attn as module

LEVELS = [(100, 167), (50, 84), (25, 42), (13, 21)]  # of 800x1333
SMALL = [(80, 80), (40, 40), (20, 20)]  # of 640x640
CASES = [
    # name, levels, points of each, queries (None: every cell)
    ('encoder, 800x1333', LEVELS, [4] * 4, None),
    ('decoder, 900 queries, 800x1333', LEVELS, [4] * 4, 900),
    ('decoder, 300 queries, 800x1333', LEVELS, [4] * 4, 300),
    ('D-FINE, 500 queries, 640x640', SMALL, [3, 6, 3], 500),
]


def inputs(levels, points, queries, batch: int, dtype: torch.dtype) -> list[Tensor]:
    """Values, places and weights of 8 heads with 32 channels."""
    generator = torch.Generator('cuda').manual_seed(0)
    random = lambda *shape: torch.randn(shape, device='cuda', generator=generator)
    if queries is None:
        grids = [
            torch.cartesian_prod((torch.arange(h, device='cuda') + 0.5) / h, (torch.arange(w, device='cuda') + 0.5) / w)
            for h, w in levels
        ]
        centers = torch.cat(grids).flip(-1).expand(batch, -1, -1)
    else:
        centers = torch.rand(batch, queries, 2, device='cuda', generator=generator)
    angle = torch.arange(8, device='cuda') * (2 * math.pi / 8)
    steps = torch.cat([torch.arange(1, count + 1, device='cuda') for count in points])
    sizes = torch.tensor([[w, h] for (h, w), count in zip(levels, points) for _ in range(count)], device='cuda')
    rays = torch.stack([angle.cos(), angle.sin()], -1)[:, None] * steps[:, None]  # (H, P, 2) in cells
    shape = *centers.shape[:2], 8, len(steps)
    places = centers[:, :, None, None] + (rays + random(*shape, 2) / 2) / sizes
    value = random(batch, sum(h * w for h, w in levels), 8, 32).to(dtype)
    return [value, places, random(*shape).softmax(-1)]


def measure(function, tensors: list[Tensor]) -> dict:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    grads = lambda out: torch.autograd.grad(out, leaves, torch.ones_like(out), retain_graph=True)
    out = function(*leaves)
    slopes = grads(out)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = dict(forward=median_ms(lambda: function(*leaves)), backward=median_ms(lambda: grads(out)))
    return {**result, 'GiB': (torch.cuda.max_memory_allocated() - before) / 2**30, 'results': [out.detach(), *slopes]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--out', help='JSON file')
    args = parser.parse_args()
    start, rows, faults = time.time(), [], []
    for name, levels, points, queries in CASES:
        sizes = [side for level in levels for side in level]
        kernel = lambda *x, sizes=sizes, points=points: module.deformable_sums(*x, sizes, points, False)
        plain = lambda *x, levels=levels, points=points: module._sums_by_level(x[0], levels, *x[1:], points, False)
        for dtype in (torch.float32, torch.bfloat16):
            tensors = inputs(levels, points, queries, args.batch, dtype)
            ours, theirs = measure(kernel, tensors), measure(plain, tensors)
            wanted = measure(plain, [tensor.float() for tensor in tensors])['results']
            apart = {
                part: float((ours['results'][i].float() - wanted[i]).abs().max() / wanted[i].abs().max())
                for i, part in ((0, 'sums'), (1, 'values'), (3, 'weights'))
            }
            limit = 1e-4 if dtype == torch.float32 else 1e-2
            faults += [f'{name} {dtype} {part}' for part, far in apart.items() if far > limit]
            row = dict(case=name, dtype=str(dtype)[6:], apart=apart)
            for key, found in (('kernel', ours), ('grid_sample', theirs)):
                row[key] = {part: found[part] for part in ('forward', 'backward', 'GiB')}
            print(row, flush=True)
            rows.append(row)
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(dict(device=torch.cuda.get_device_name(), torch=torch.__version__, rows=rows), file, indent=1)
    verdict = f'apart: {", ".join(faults)}' if faults else 'all agree'
    print(f'{torch.cuda.get_device_name()}, {time.time() - start:.0f} s: {verdict}')


if __name__ == '__main__':
    main()
