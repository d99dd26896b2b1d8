"""Milliseconds to draw what was found on a picture, beside supervision's annotators.

    python benchmarks/drawing.py --out outputs/benchmarks

Each number is the median of ``--repeat`` pictures of 1333 x 800 pixels, in milliseconds of the processor. supervision
writes in OpenCV's one font, which has the letters of ASCII alone; ours in fonts that have the letters of the names.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))

HEIGHT, WIDTH = 800, 1333


def sample(count, masks, seed=0):
    """Random objects of the classes of COCO, of middling sizes."""
    import torch
    from mmengine.structures import InstanceData

    from mmdet.structures import DetDataSample

    rng = np.random.default_rng(seed)
    sides = rng.uniform(40, 320, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    boxes = torch.from_numpy(np.concatenate([corners, corners + sides], 1)).float()
    found = InstanceData(bboxes=boxes, labels=torch.from_numpy(rng.integers(0, 80, count)))
    found.scores = torch.from_numpy(rng.uniform(0.3, 1, count)).float()
    if masks:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        found.masks = torch.from_numpy(
            np.stack(
                [
                    ((x - (a + c) / 2) / (c - a)) ** 2 + ((y - (b + d) / 2) / (d - b)) ** 2 < 0.25
                    for a, b, c, d in boxes.tolist()
                ]
            )
        )
    return DetDataSample(pred_instances=found)


def by_mmdet(data_sample, classes, palette):
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(name=f'drawing-{time.perf_counter_ns()}')
    visualizer.dataset_meta = dict(classes=classes, palette=palette)
    return lambda image: visualizer.draw_datasample(image, data_sample, draw_gt=False)


def by_supervision(data_sample, classes):
    import supervision as sv

    found = data_sample.pred_instances
    masks = found.masks.numpy() if 'masks' in found else None
    detections = sv.Detections(found.bboxes.numpy(), masks, found.scores.numpy(), found.labels.numpy())
    texts = [f'{classes[label]}: {100 * score:.1f}' for label, score in zip(detections.class_id, detections.confidence)]
    steps = [sv.MaskAnnotator()] if masks is not None else []
    steps.append(sv.BoxAnnotator())
    labels = sv.LabelAnnotator(smart_position=True)

    def draw(image):
        image = image.copy()
        for step in steps:
            image = step.annotate(image, detections)
        return labels.annotate(image, detections, texts)

    return draw


def measure(draw, repeat):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    times = []
    for _ in range(repeat + 2):  # the first two load fonts
        start = time.process_time()
        draw(image)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[2:])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, help='folder for drawing.json and the pictures')
    parser.add_argument('--repeat', type=int, default=15)
    args = parser.parse_args(argv)
    import cv2

    from mmdet.datasets import CocoDataset

    cv2.setNumThreads(1)
    classes, palette = CocoDataset.METAINFO['classes'], CocoDataset.METAINFO['palette']
    table = {}
    for name, count, masks in (('21 boxes', 21, False), ('100 boxes', 100, False), ('21 boxes and masks', 21, True)):
        data_sample = sample(count, masks)
        ways = dict(mmdet=by_mmdet(data_sample, classes, palette))
        try:
            ways['supervision'] = by_supervision(data_sample, classes)
        except ImportError:
            print('supervision is not installed: it is left out')
        table[name] = {way: measure(draw, args.repeat) for way, draw in ways.items()}
        print(f'{name}: ' + ', '.join(f'{way} {value:.1f} ms' for way, value in table[name].items()))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            for way, draw in ways.items():
                drawn = draw(np.full((HEIGHT, WIDTH, 3), 190, dtype=np.uint8))
                cv2.imwrite(str(args.out / f'drawing_{way}_{name.replace(" ", "_")}.png'), drawn[..., ::-1])
    if args.out:
        (args.out / 'drawing.json').write_text(json.dumps(table, indent=1))
    return table


if __name__ == '__main__':
    main()
