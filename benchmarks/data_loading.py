"""Pictures per second and worker: this package's training pipeline beside torchvision's reference pipeline.

Both decode the same files, flip at random, resize the shorter side to 800 pixels and collate batches; they take turns.
Ours is `LoadImageFromFile`, `LoadAnnotations`, `Resize`, `RandomFlip`, `PackDetInputs`; pictures stay bytes, which the
data preprocessor normalises on the device. torchvision's is `PIL.Image.open`, `PILToTensor`, `RandomHorizontalFlip`,
`ToDtype` and the resize of its detectors' `GeneralizedRCNNTransform`, done in the worker to compare like with like.
``--to-device`` adds normalisation and padding to the batch on both sides. ``--stages`` says where our time goes.

    python benchmarks/data_loading.py --images data/bccd
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import report

SUFFIXES = ('.jpg', '.jpeg', '.png')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=Path, required=True, help='folder, searched with its subfolders')
    parser.add_argument('--limit', type=int, default=64, help='pictures at most')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--boxes', type=int, default=10, help='made-up ground truths of each picture')
    parser.add_argument('--workers', type=int, default=0, help='processes; 0 loads in this one')
    parser.add_argument('--rounds', type=int, default=5, help='timed turns of each, after one for warm-up')
    parser.add_argument('--to-device', action='store_true', help='include normalisation and padding')
    parser.add_argument('--device', default='cpu', help='for --to-device and --stages')
    parser.add_argument('--stages', action='store_true', help='time each step of our pipeline in this process')
    parser.add_argument('--out', help='a JSON file for the results')
    return parser.parse_args()


class Pictures:
    """Files with made-up boxes; ``load`` turns one into a sample."""

    def __init__(self, files: list[Path], boxes: int, load) -> None:
        import numpy as np
        from PIL import Image

        self.files, self.load, self.boxes = files, load, []
        self.sizes = [Image.open(file).size for file in files]
        random = np.random.RandomState(0)
        for width, height in self.sizes:
            low = random.rand(boxes, 2) * (width * 0.6, height * 0.6)
            self.boxes.append(np.hstack([low, low + 8 + random.rand(boxes, 2) * (width * 0.3, height * 0.3)]))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        return self.load(str(self.files[index]), self.sizes[index], self.boxes[index])


class Ours:
    def __init__(self, device: str) -> None:
        from mmengine.dataset import Compose
        from mmengine.registry import init_default_scope

        from mmdet.registry import DATASETS, MODELS  # noqa: F401

        init_default_scope('mmdet')
        self.pipeline = Compose(
            [
                dict(type='LoadImageFromFile', backend_args=None),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackDetInputs'),
            ]
        )
        normalize = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
        self.prepare = MODELS.build(dict(type='DetDataPreprocessor', pad_size_divisor=32, **normalize)).to(device)

    def start(self, file: str, size: tuple[int, int], boxes) -> dict:
        instances = [dict(bbox=list(map(float, box)), bbox_label=0, ignore_flag=0) for box in boxes]
        return dict(img_path=file, img_id=0, width=size[0], height=size[1], instances=instances)

    def __call__(self, *sample):
        return self.pipeline(self.start(*sample))

    def collate(self, samples: list):
        from mmengine.dataset import pseudo_collate

        return pseudo_collate(samples)

    def finish(self, batch):
        return self.prepare(batch, True)


class Theirs:
    def __init__(self, device: str) -> None:
        import torch
        from torchvision.models.detection.transform import GeneralizedRCNNTransform
        from torchvision.transforms import v2

        self.transform = v2.Compose(
            [v2.PILToTensor(), v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float32, scale=True)]
        )
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        self.prepare = GeneralizedRCNNTransform(800, 1333, mean, std)
        self.device = device

    def __call__(self, file: str, size: tuple[int, int], boxes):
        import torch
        from PIL import Image
        from torchvision import tv_tensors

        target = dict(
            boxes=tv_tensors.BoundingBoxes(torch.from_numpy(boxes).float(), format='XYXY', canvas_size=size[::-1]),
            labels=torch.zeros(len(boxes), dtype=torch.long),
        )
        image, target = self.transform(Image.open(file).convert('RGB'), target)
        return self.prepare.resize(image, target)

    def collate(self, samples: list):
        return tuple(zip(*samples))

    def finish(self, batch):
        return self.prepare.batch_images([self.prepare.normalize(image.to(self.device)) for image in batch[0]])


def stage_times(pictures: Pictures, ours: Ours, batch: int) -> dict[str, float]:
    """Milliseconds per picture of each step, one after another over the same pictures."""
    times: dict = {}

    def timed(name, function, *args):
        start = time.perf_counter()
        result = function(*args)
        times[name] = times.get(name, 0) + time.perf_counter() - start
        return result

    for first in range(0, len(pictures), batch):
        samples = []
        for index in range(first, min(first + batch, len(pictures))):
            sample = ours.start(str(pictures.files[index]), pictures.sizes[index], pictures.boxes[index])
            for transform in ours.pipeline.transforms:
                sample = timed(type(transform).__name__, transform, sample)
            samples.append(sample)
        collated = timed('collate', ours.collate, samples)
        timed('transfer, normalise and pad', ours.finish, collated)
    return {name: seconds / len(pictures) * 1000 for name, seconds in times.items()}


def main() -> None:
    args = parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    import cv2
    import torch
    import torchvision
    from torch.utils.data import DataLoader

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    files = sorted(path for path in args.images.rglob('*') if path.suffix.lower() in SUFFIXES)[: args.limit]
    if not files:
        raise FileNotFoundError(f'no {", ".join(SUFFIXES)} below {args.images}')
    print(f'torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}')
    print(f'{len(files)} pictures, batch {args.batch}, {args.workers} workers')
    sides = {}
    for name, kind in dict(ours=Ours, torchvision=Theirs).items():
        load = kind(args.device)
        loader = DataLoader(
            Pictures(files, args.boxes, load),
            args.batch,
            num_workers=args.workers,
            collate_fn=load.collate,
            persistent_workers=args.workers > 0,
        )
        sides[name] = (loader, load)
    rates: dict = {name: [] for name in sides}
    for turn in range(args.rounds + 1):
        for name, (loader, load) in sides.items():
            torch.manual_seed(turn)
            start = time.perf_counter()
            for batch in loader:
                if args.to_device:
                    load.finish(batch)
            if turn:
                rates[name].append(len(files) / (time.perf_counter() - start) / max(args.workers, 1))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in medians.items():
        print(f'{name:12s} {value:7.1f} pictures per second and worker')
    ratio = statistics.median(a / b for a, b in zip(rates['ours'], rates['torchvision']))
    print(f'ours / torchvision = {ratio:.2f}')
    what = 'loading, normalising and padding' if args.to_device else 'loading'
    per_second = 'pictures/s/worker'
    rows = [report.row(what, medians['ours'], per_second, medians['torchvision'], 'torchvision', better='more')]
    if args.stages:
        loader, ours = sides['ours']
        for stage, value in stage_times(loader.dataset, ours, args.batch).items():
            print(f'  {stage:28s} {value:7.2f} ms per picture')
            rows.append(report.row(f'loading: {stage}', value, 'ms/picture'))
    report.save(args.out, rows, workers=args.workers, pictures=len(files), device=args.device)


if __name__ == '__main__':
    main()
