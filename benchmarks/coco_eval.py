"""Time of COCO box evaluation: pycocotools itself, and CocoMetric with pycocotools and with faster-coco-eval.

    python benchmarks/coco_eval.py [--images 5000] [--detections 100] [--rounds 3] [--out results.json]

Ground truth and detections are random: 80 classes, about 7 objects an image, detections near objects and elsewhere.
The three take turns in one process. Each starts from annotations in memory and ends with the twelve COCO numbers:
pycocotools from a ready list of result dicts, CocoMetric from the arrays that it keeps of each image.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import importlib.util
import io
import os
import statistics
import sys
import time
from collections import defaultdict
from functools import partial

import numpy as np
import report
from mmengine.logging import MMLogger

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.functional.coco_eval import load_coco

ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


def make_data(images: int, detections: int, seed: int = 0, classes: int = 80) -> tuple[dict, list[dict]]:
    """A COCO dataset and its detections."""
    rng = np.random.default_rng(seed)
    truth = dict(
        images=[dict(id=i + 1, width=640, height=480) for i in range(images)],
        categories=[dict(id=c + 1, name=f'class {c + 1}') for c in range(classes)],
        annotations=[],
    )
    found = []
    for image in truth['images']:
        count = int(rng.poisson(7))
        size = np.exp(rng.uniform(np.log(10), np.log(300), (count, 2)))
        boxes = np.concatenate([rng.uniform(0, [640, 480], (count, 2)), size], 1)
        labels = rng.integers(1, classes + 1, count)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            truth['annotations'].append(
                dict(
                    id=len(truth['annotations']) + 1,
                    image_id=image['id'],
                    category_id=label,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=int(rng.random() < 0.01),
                )
            )
        near = min(3 * count, detections)
        pick = rng.integers(0, max(count, 1), near) if count else np.zeros(0, dtype=int)
        moved = boxes[pick] + rng.normal(0, 0.1, (near, 4)) * boxes[pick][:, [2, 3, 2, 3]]
        other = np.concatenate(
            [rng.uniform(0, [640, 480], (detections - near, 2)), rng.uniform(5, 200, (detections - near, 2))], 1
        )
        every = np.concatenate([moved, other])
        every[:, 2:] = np.maximum(every[:, 2:], 1)
        which = np.concatenate([labels[pick], rng.integers(1, classes + 1, detections - near)])
        for box, label, score in zip(every.tolist(), which.tolist(), rng.random(detections).tolist(), strict=True):
            found.append(dict(image_id=image['id'], category_id=label, bbox=box, score=score))
    return truth, found


def arrays(found: list[dict]) -> list[dict]:
    """What CocoMetric keeps of each image."""
    by_image = defaultdict(list)
    for entry in found:
        x, y, w, h = entry['bbox']
        by_image[entry['image_id']].append((x, y, x + w, y + h, entry['score'], entry['category_id'] - 1))
    results = []
    for img_id, rows in by_image.items():
        table = np.array(rows)
        results.append(dict(img_id=img_id, bboxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].astype(int)))
    return results


def run_pycocotools(truth: dict, found: list[dict]) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluator = COCOeval(coco, coco.loadRes(found), 'bbox')
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return dict(zip(ITEMS, evaluator.stats[:6].tolist(), strict=True))


def run_metric(truth: dict, preds: list[dict], faster: bool) -> dict[str, float]:
    metric = CocoMetric(use_faster_coco_eval=faster, proposal_nums=(1, 10, 100))
    metric.dataset_meta = dict(classes=[category['name'] for category in truth['categories']])
    metric._coco_api = load_coco(truth, faster)
    numbers = metric.compute_metrics([({}, pred) for pred in preds])
    return {item: numbers[f'bbox_{item}'] for item in ITEMS}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=100, help='of each image')
    parser.add_argument('--rounds', type=int, default=3, help='times that each is measured, in turns')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='a JSON file for the results')
    args = parser.parse_args(argv)

    MMLogger.get_instance('benchmark', log_level='WARNING')
    truth, found = make_data(args.images, args.detections, args.seed)
    preds = arrays(found)
    runs = {'pycocotools': run_pycocotools, 'CocoMetric, pycocotools': partial(run_metric, faster=False)}
    if importlib.util.find_spec('faster_coco_eval'):
        runs['CocoMetric, faster-coco-eval'] = partial(run_metric, faster=True)
    else:
        print('faster-coco-eval is not installed: pip install faster-coco-eval')
    print(f'{args.images} images, {args.detections} detections each, {len(os.sched_getaffinity(0))} CPU cores')
    print(', '.join(f'{name} {version}' for name, version in report.versions().items()))

    seconds, numbers = {name: [] for name in runs}, {}
    for _ in range(args.rounds):
        for name, run in runs.items():
            ready = copy.deepcopy(truth), copy.deepcopy(found) if run is run_pycocotools else preds
            gc.collect()
            with contextlib.redirect_stdout(io.StringIO()):
                start = time.perf_counter()
                numbers[name] = run(*ready)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f'\n{"":<30}{"seconds":>9}{"speed-up":>10}{"mAP":>10}')
    for name, median in medians.items():
        ratio = medians['pycocotools'] / median
        print(f'{name:<30}{median:>9.2f}{ratio:>9.1f}x{numbers[name]["mAP"]:>10.6f}')
    first = numbers['pycocotools']
    difference = max(abs(value - first[item]) for found in numbers.values() for item, value in found.items())
    print(f'\nlargest difference of the numbers: {difference:.1e}')
    peer = medians.pop('pycocotools')
    rows = [report.row(f'COCO evaluation: {name}', ours, 's', peer, 'pycocotools') for name, ours in medians.items()]
    report.save(args.out, rows, images=args.images, detections=args.detections, largest_difference=difference)


if __name__ == '__main__':
    main()
