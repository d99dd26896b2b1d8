"""Time of COCO box evaluation: pycocotools itself, and CocoMetric with hotcoco.

    python benchmarks/coco_eval.py [--images 5000] [--detections 100] [--rounds 3] [--fallback] [--out results.json]

Ground truth and detections are random: 80 classes, about 7 objects an image, detections near objects and elsewhere.
They take turns in one process. Each starts from annotations in memory and ends with the COCO numbers: pycocotools from
a ready list of result dicts, CocoMetric from the arrays that it keeps of each image. ``evaluate`` and ``accumulate``
are timed by themselves too; ours hand the data to the backend in ``evaluate``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
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
from pycocotools.cocoeval import COCOeval as PlainCOCOeval

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.datasets.api_wrappers import COCOeval
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


@contextlib.contextmanager
def matching_time(evaluator: type):
    """A list to which the seconds of each ``evaluate`` and ``accumulate`` are added."""
    seconds, own = [], {name: vars(evaluator)[name] for name in ('evaluate', 'accumulate')}

    def timed(method):
        def run(self):
            start = time.perf_counter()
            method(self)
            seconds.append(time.perf_counter() - start)

        return run

    for name, method in own.items():
        setattr(evaluator, name, timed(method))
    try:
        yield seconds
    finally:
        for name, method in own.items():
            setattr(evaluator, name, method)


def run_pycocotools(truth: dict, found: list[dict]) -> tuple[float, dict[str, float]]:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluator = PlainCOCOeval(coco, coco.loadRes(found), 'bbox')
    with matching_time(PlainCOCOeval) as seconds:
        evaluator.evaluate()
        evaluator.accumulate()
    evaluator.summarize()
    return sum(seconds), dict(zip(ITEMS, evaluator.stats[:6].tolist(), strict=True))


def run_metric(truth: dict, preds: list[dict], backend: str) -> tuple[float, dict[str, float]]:
    metric = CocoMetric(use_faster_coco_eval=backend, proposal_nums=(1, 10, 100))
    metric.dataset_meta = dict(classes=[category['name'] for category in truth['categories']])
    metric._coco_api = load_coco(truth)
    with matching_time(COCOeval) as seconds:
        numbers = metric.compute_metrics([({}, pred) for pred in preds])
    return sum(seconds), {item: numbers[f'bbox_{item}'] for item in ITEMS}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=100, help='of each image')
    parser.add_argument('--rounds', type=int, default=3, help='times that each is measured, in turns')
    parser.add_argument('--fallback', action='store_true', help='CocoMetric with pycocotools too')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='a JSON file for the results')
    args = parser.parse_args(argv)

    MMLogger.get_instance('benchmark', log_level='WARNING')
    truth, found = make_data(args.images, args.detections, args.seed)
    preds = arrays(found)
    runs = {'pycocotools': run_pycocotools, 'CocoMetric, hotcoco': partial(run_metric, backend='hotcoco')}
    if args.fallback:
        runs['CocoMetric, pycocotools'] = partial(run_metric, backend='pycocotools')
    print(f'{args.images} images, {args.detections} detections each, {len(os.sched_getaffinity(0))} CPU cores')
    print(', '.join(f'{name} {version}' for name, version in report.versions().items()))

    seconds, matching, numbers = ({name: [] for name in runs} for _ in range(3))
    for _ in range(args.rounds):
        for name, run in runs.items():
            ready = copy.deepcopy(truth), copy.deepcopy(found) if run is run_pycocotools else preds
            gc.collect()
            with contextlib.redirect_stdout(io.StringIO()):
                start = time.perf_counter()
                inner, numbers[name] = run(*ready)
                seconds[name].append(time.perf_counter() - start)
                matching[name].append(inner)
    whole, matched = ({name: statistics.median(times) for name, times in each.items()} for each in (seconds, matching))
    print(f'\n{"seconds":<26}{"evaluate, accumulate":>26}{"all":>18}{"mAP":>11}')
    for name in runs:
        times = [(each['pycocotools'] / each[name], each[name]) for each in (matched, whole)]
        text = ''.join(f'{second:>{width}.2f} ({ratio:5.1f}x)' for (ratio, second), width in zip(times, (17, 9)))
        print(f'{name:<26}{text}{numbers[name]["mAP"]:>11.6f}')
    first = numbers['pycocotools']
    difference = max(abs(value - first[item]) for found in numbers.values() for item, value in found.items())
    print(f'\nlargest difference of the numbers: {difference:.1e}')
    rows = []
    for name in list(runs)[1:]:
        for part, each in ((', evaluate and accumulate', matched), ('', whole)):
            title = f'COCO evaluation: {name}{part}'
            rows.append(report.row(title, each[name], 's', each['pycocotools'], 'pycocotools'))
    report.save(args.out, rows, images=args.images, detections=args.detections, largest_difference=difference)


if __name__ == '__main__':
    main()
