"""How many of COCO's partly hidden and separated objects are found, by predictions that tools/test.py --out wrote.

    python tools/analysis_tools/coco_occluded_separated_recall.py work_dirs/predictions.pkl --out recall.json

The lists of these objects (arXiv:2210.10046) are fetched once; --occluded and --separated name files in their place.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', help='predictions with masks, as tools/test.py --out wrote them')
    parser.add_argument('--out', help='JSON file to write the numbers to')
    parser.add_argument('--score-thr', type=float, default=0.3, help='detections of lower scores are left out (0.3)')
    parser.add_argument('--iou-thr', type=float, default=0.75, help='overlap of masks that is enough (0.75)')
    parser.add_argument('--ann', default='data/coco/annotations/instances_val2017.json', help='annotation file of COCO')
    parser.add_argument('--occluded', help='file of the list of occluded objects')
    parser.add_argument('--separated', help='file of the list of separated objects')
    return parser.parse_args(argv)


def main(args):
    from mmengine.fileio import dump

    from mmdet.apis.offline import load_results
    from mmdet.evaluation import CocoOccludedSeparatedMetric
    from mmdet.utils.class_names import COCO_CLASSES

    lists = dict(occluded_ann=args.occluded, separated_ann=args.separated)
    metric = CocoOccludedSeparatedMetric(
        ann_file=args.ann,
        score_thr=args.score_thr,
        iou_thr=args.iou_thr,
        **{name: file for name, file in lists.items() if file is not None},
    )
    metric.dataset_meta = dict(classes=COCO_CLASSES)
    predictions = load_results(args.results)
    metric.process({}, predictions)
    numbers = metric.evaluate(len(predictions))
    for name, value in numbers.items():
        print(f'{name}: {value:.4f}')
    if args.out is not None:
        dump(dict(numbers), args.out)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
