"""Masks on a GPU: targets cut out of packed bitmaps and pasted detections, equal to the CPU's, and how long they take.

    python benchmarks/gpu_mask_check.py [--out FILE.json]

Under half a minute. The last line says whether every check passed.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from gpu_timing import median_ms
from torchvision.ops import roi_align

from mmdet.models.core import masks as module
from mmdet.models.core.masks import crop_masks, paste_batch, paste_masks, paste_rle
from mmdet.ops import mask_kernels
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask.windows import move_together

IMAGE, OBJECTS, POSITIVES, DETECTIONS = (800, 1333), 20, 128, 100
CFG = dict(mask_size=28)


def ground_truth(generator: torch.Generator) -> tuple[BitmapMasks, torch.Tensor]:
    """Ellipses in boxes of every size."""
    corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([1000.0, 600.0])
    side = torch.rand(OBJECTS, 2, generator=generator) ** 2 * 600 + 8
    boxes = torch.cat([corner, corner + side], 1).minimum(torch.tensor([IMAGE[1], IMAGE[0]] * 2).float())
    y, x = np.mgrid[: IMAGE[0], : IMAGE[1]]
    masks = np.zeros((OBJECTS, *IMAGE), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        mask[:] = ((x - (x1 + x2) / 2) * 2 / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) * 2 / (y2 - y1)) ** 2 <= 1
    return BitmapMasks(masks, *IMAGE), boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out')
    args = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    generator = torch.Generator().manual_seed(0)
    images = [ground_truth(generator) for _ in range(2)] * 8  # two different pictures, sixteen in the batch
    start = time.perf_counter()
    packed = [masks.packed() for masks, _ in images[:2]] * 8
    row = dict(pack_one_picture=round((time.perf_counter() - start) * 500, 2))
    windows = [masks.windows for masks in packed]
    row['bytes'], row['bytes_whole'] = sum(len(w.bits) for w in windows), 16 * OBJECTS * IMAGE[0] * IMAGE[1]
    device = torch.device('cuda')
    row['move'] = median_ms(lambda: move_together(windows, device))
    on_gpu = [masks.with_windows(part) for masks, part in zip(packed, move_together(windows, device), strict=True)]

    inds = torch.randint(0, OBJECTS, (16, POSITIVES), generator=generator)
    boxes = torch.stack([b[i] for (_, b), i in zip(images, inds, strict=True)])
    side = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    boxes = boxes + (torch.rand(boxes.shape, generator=generator) - 0.5) * 0.3 * side
    boxes[:, :4] = boxes[:, :4].round()
    pos = torch.rand(16, POSITIVES, generator=generator) > 0.2
    want = crop_masks(boxes[:2], inds[:2], pos[:2], packed[:2], CFG)
    data = [value.to(device) for value in (boxes, inds, pos)]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    got = crop_masks(*data, on_gpu, CFG)
    torch.cuda.set_sync_debug_mode('default')
    faults = []
    if not torch.equal(got[:2].cpu(), want):
        faults.append(f'{int((got[:2].cpu() != want).sum())} of {want.numel()} bins differ from those of the CPU')
    for bins in (128, 256, 512):
        mask_kernels.BINS = bins
        row[f'crop_{bins}'] = median_ms(lambda: crop_masks(*data, on_gpu, CFG))
    mask_kernels.BINS = 256
    whole = torch.from_numpy(images[0][0].masks).to(device).float()[:, None]
    rois = torch.cat([data[1][0][:, None].float(), data[0][0]], 1)
    align = lambda: [roi_align(whole, rois, (28, 28), 1.0, 0, True) for _ in range(16)]
    row['roi_align_of_whole_bitmaps'] = median_ms(align)

    small = torch.rand(16 * DETECTIONS, 28, 28, generator=generator)
    found = boxes[:, :DETECTIONS].reshape(-1, 4)
    counts, shapes = [DETECTIONS] * 16, [IMAGE] * 16
    gpu_small, gpu_found = small.to(device), found.to(device)
    torch.cuda.set_sync_debug_mode('error')
    pasted = paste_batch(gpu_small, gpu_found, counts, shapes, 0.5)
    torch.cuda.set_sync_debug_mode('default')
    differ = (pasted[1].cpu() != paste_masks(small[100:200], found[100:200], IMAGE, 0.5)).sum().item()
    row['pasted_pixels_that_differ'] = differ
    if differ > 1e-5 * pasted[1].numel():
        faults.append(f'{differ} of {pasted[1].numel()} pasted pixels differ from those of the CPU')
    for tile in ((8, 128), (4, 256), (16, 128), (8, 256), (16, 64)):
        mask_kernels.TILE = tile
        row[f'paste_{tile[0]}_{tile[1]}'] = median_ms(lambda: paste_batch(gpu_small, gpu_found, counts, shapes, 0.5))
    mask_kernels.TILE = (8, 128)
    module._has_kernels = lambda masks: False
    row['paste_by_grid_sample'] = median_ms(lambda: paste_batch(gpu_small, gpu_found, counts, shapes, 0.5), 3)
    row['paste_rle_all'] = median_ms(lambda: paste_rle(gpu_small, gpu_found, counts, shapes, 0.5), 1)
    for key, value in row.items():
        print(f'{key:32s} {value}')
    for fault in faults:
        print('DIFFERS', fault)
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(dict(card=torch.cuda.get_device_name(), torch=torch.__version__, faults=faults, row=row), file)
    print('all equal' if not faults else f'{len(faults)} differences')


if __name__ == '__main__':
    main()
