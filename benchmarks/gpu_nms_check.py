"""Batched suppression on a GPU: equal to torchvision's, without a host sync, and how long both take.

    python benchmarks/gpu_nms_check.py [--out FILE.json]

Under a minute. The last line says whether every check passed.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from gpu_timing import median_ms
from torchvision.ops import nms as torchvision_nms

from mmdet.models.core import stable_topk
from mmdet.ops import batched_nms, padded_nms
from mmdet.ops import padded_nms_kernel as kernel_module

# images, candidates, groups, whether boxes and scores are coarse, results
CASES = [
    (1, 1, 1, False, -1),
    (1, 100, 1, False, -1),
    (1, 100, 80, True, 20),
    (2, 1000, 80, False, 100),
    (4, 1000, 1, True, 100),
    (16, 2000, 80, False, 100),
    (16, 4819, 5, False, 1000),
    (16, 4819, 5, True, 1000),
    (16, 9000, 5, False, 1000),
    (3, 16000, 5, True, -1),
]
TIMED = [
    ('RetinaNet', 16, 5000, 80, 100),
    ('RPN in inference', 16, 4819, 5, 1000),
    ('RPN in training', 16, 8800, 5, 1000),
    ('RoI head', 16, 3000, 80, 100),
    ('one image', 1, 5000, 80, 100),
    ('all of 16,000', 16, 16000, 80, -1),
]


def make(batch: int, num: int, groups: int, coarse: bool, generator: torch.Generator, device: str):
    corner = torch.rand(batch, num, 2, generator=generator) * torch.tensor([1200.0, 700.0])
    side = torch.rand(batch, num, 2, generator=generator) ** 2 * 300 + 4
    boxes, scores = torch.cat([corner, corner + side], -1), torch.rand(batch, num, generator=generator)
    if coarse:  # equal scores, and overlaps that are round numbers
        boxes, scores = (boxes / 16).round() * 16, (scores * 50).round() / 50
    kinds = torch.randint(0, groups, (batch, num), generator=generator)
    valid = torch.rand(batch, num, generator=generator) > 0.2
    return [value.to(device) for value in (boxes, scores, kinds, valid)]


def by_group(boxes, scores, kinds, threshold: float):
    """torchvision's answer for each group by itself, then by falling score, of equals the first."""
    kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for kind in kinds.unique():
        inside = (kinds == kind).nonzero()[:, 0]
        kept[inside[torchvision_nms(boxes[inside], scores[inside], threshold)]] = True
    index = kept.nonzero()[:, 0]
    return index[scores[index].sort(descending=True, stable=True).indices]


def check(generator: torch.Generator) -> list[str]:
    faults = []
    for batch, num, groups, coarse, limit in CASES:
        data = make(batch, num, groups, coarse, generator, 'cuda')
        data[3][0] = data[3][0] & (batch == 1)  # one image without candidates
        for threshold in (0.5, 0.6, 0.7):
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode('error')
            index, counts = padded_nms(*data, threshold, limit)
            torch.cuda.set_sync_debug_mode('default')
            for b in range(batch if num < 5000 else min(batch, 2)):
                boxes, scores, kinds, valid = (value[b] for value in data)
                taken = valid.nonzero()[:, 0]
                found = index[b, : int(counts[b])]
                # torchvision's GPU kernel rounds the threshold, which shows where overlaps are round numbers.
                for device in ('cpu',) if coarse else ('cuda', 'cpu') if num <= 5000 else ('cuda',):
                    want = taken.to(device)[
                        by_group(*(value[taken].to(device) for value in (boxes, scores, kinds)), threshold)
                    ]
                    want = want[:limit] if limit > 0 else want
                    if not torch.equal(found.to(device), want):
                        same = min(len(found), len(want))
                        first = (found.to(device)[:same] != want[:same]).nonzero()
                        faults.append(
                            f'{batch} x {num}, {groups} groups, coarse={coarse}, threshold {threshold}, image {b}: '
                            f'{len(found)} kept, torchvision on {device} {len(want)}, first difference '
                            f'{int(first[0]) if len(first) else same}'
                        )
    index, counts = padded_nms(torch.zeros(2, 0, 4).cuda(), torch.zeros(2, 0).cuda(), None, None, 0.5)
    if index.shape != (2, 0) or counts.tolist() != [0, 0]:
        faults.append(f'nothing gives {index.shape} and {counts.tolist()}')
    for kinds in (1, 40, 10**6):
        values = torch.randint(0, kinds, (16, 20, 20000)).float()
        for largest in (True, False):
            if not torch.equal(
                stable_topk(values.cuda(), 9, largest)[1].cpu(),
                values.sort(dim=-1, descending=largest, stable=True).indices[..., :9],
            ):
                faults.append(f'stable_topk(largest={largest}) of {kinds} kinds of values')
    return faults


def measure(generator: torch.Generator) -> list[dict]:
    rows = []
    for name, batch, num, groups, limit in TIMED:
        boxes, scores, kinds, _ = make(batch, num, groups, False, generator, 'cuda')

        def theirs():
            for b in range(batch):  # noqa: B023
                batched_nms(boxes[b], scores[b], kinds[b], dict(iou_threshold=0.5, split_thr=10**9))[1][:limit]  # noqa: B023

        row = dict(case=name, batch=batch, candidates=num, groups=groups, results=limit)
        row['torchvision'] = median_ms(theirs, 5)
        row['ours'] = median_ms(lambda: padded_nms(boxes, scores, kinds, None, 0.5, limit))  # noqa: B023
        order = scores.sort(dim=1, descending=True, stable=True).indices
        sizes = torch.full((batch,), num, dtype=torch.int32, device='cuda')
        args = boxes.gather(1, order[..., None].expand(-1, -1, 4)), kinds.gather(1, order).int(), sizes, 0.5
        for block, chunk, warps in (
            (64, 128, 8),
            (64, 64, 4),
            (128, 64, 8),
            (32, 128, 4),
            (64, 256, 16),
            (128, 128, 16),
        ):
            kernel_module.BLOCK, kernel_module.CHUNK, kernel_module.WARPS = block, chunk, warps
            most = limit if limit > 0 else num
            row[f'kernel {block} {chunk} {warps}'] = median_ms(lambda: kernel_module.launch(*args, most), 5)  # noqa: B023
        kernel_module.BLOCK, kernel_module.CHUNK, kernel_module.WARPS = 64, 128, 8
        rows.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
        print(rows[-1], flush=True)
    values = torch.rand(16, 20, 16800, device='cuda')
    topk = dict(case='9 nearest of 16 x 20 x 16,800', topk=median_ms(lambda: values.topk(9, -1)))
    topk['stable_topk'] = median_ms(lambda: stable_topk(values, 9))
    print(topk)
    return [*rows, topk]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out')
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    print(torch.cuda.get_device_name(), torch.__version__)
    start = time.perf_counter()
    faults = check(generator)
    print(f'checked in {time.perf_counter() - start:.0f} s')
    for fault in faults:
        print('DIFFERS', fault)
    rows = measure(generator)
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(dict(card=torch.cuda.get_device_name(), torch=torch.__version__, faults=faults, rows=rows), file)
    print('all equal' if not faults else f'{len(faults)} differences', f'{time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    main()
