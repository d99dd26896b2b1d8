"""Fuse the detections of several detectors by weighted boxes fusion (arXiv:1910.13302).

    python tools/analysis_tools/fuse_results.py a.bbox.json b.bbox.json --annotation val.json --weights 2 1

The files are in COCO's result format, as tools/test.py writes with test_evaluator.outfile_prefix.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import run
from mmdet.errors import UserFileError, UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pred_results', nargs='+', help='files of detections of one data set, two or more')
    parser.add_argument('--annotation', required=True, help='annotation file of the data set')
    parser.add_argument('--weights', nargs='*', type=float, help='trust in each file; 1 by default')
    parser.add_argument('--fusion-iou-thr', type=float, default=0.55, help='overlap from which boxes become one')
    parser.add_argument('--skip-box-thr', type=float, default=0.0, help='boxes that score less are left out')
    parser.add_argument(
        '--conf-type',
        default='avg',
        choices=['avg', 'max', 'box_and_model_avg', 'absent_model_aware_avg'],
        help='score of a fused box',
    )
    parser.add_argument('--eval-single', action='store_true', help='evaluate each file, too')
    parser.add_argument('--save-fusion-results', action='store_true', help='write the fused detections')
    parser.add_argument('--out-dir', default='outputs', help='folder for fusion_results.json')
    return parser.parse_args(argv)


def read_detections(path):
    """The detections of a file, by the id of their picture."""
    if not os.path.isfile(path):
        raise UserFileError(f'{path} does not exist')
    content = json.loads(Path(path).read_text(encoding='utf-8'))
    if not isinstance(content, list) or not all(isinstance(d, dict) and 'bbox' in d and 'score' in d for d in content):
        raise UserValueError(f'{path} is not a list of detections with image_id, category_id, bbox and score')
    found = {}
    for detection in content:
        found.setdefault(detection['image_id'], []).append(detection)
    return found


def fuse(files, weights=None, iou_thr=0.55, skip_box_thr=0.0, conf_type='avg'):
    """Fused detections in COCO's result format, picture by picture."""
    import numpy as np

    from mmdet.models.utils import weighted_boxes_fusion

    found = []
    for image_id in sorted(set().union(*files), key=lambda key: (str(type(key)), key)):
        columns = [[], [], []]
        for file in files:
            rows = file.get(image_id, [])
            boxes = np.array([row['bbox'] for row in rows], dtype=np.float64).reshape(-1, 4)
            columns[0].append(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
            columns[1].append(np.array([row['score'] for row in rows], dtype=np.float64))
            columns[2].append(np.array([row['category_id'] for row in rows], dtype=np.int64))
        fused = weighted_boxes_fusion(*columns, weights, iou_thr, skip_box_thr, conf_type)
        for (x1, y1, x2, y2), score, label in zip(*(column.tolist() for column in fused)):
            box = [x1, y1, x2 - x1, y2 - y1]
            found.append(dict(image_id=image_id, category_id=int(label), bbox=box, score=score))
    return found


def main(argv=None):
    args = parse_args(argv)
    if len(args.pred_results) < 2:
        raise UserValueError('fusion takes two files of detections or more')
    if args.weights and len(args.weights) != len(args.pred_results):
        raise UserValueError(f'--weights has {len(args.weights)} numbers for {len(args.pred_results)} files')
    from mmdet.evaluation.functional.coco_eval import evaluate_coco, load_coco, summarize, summary_table

    coco = load_coco(args.annotation)
    files = [read_detections(path) for path in args.pred_results]

    def evaluate(title, detections):
        evaluator = evaluate_coco(coco, detections)
        print(f'{title}\n{summary_table(evaluator)}')
        return summarize(evaluator)

    if args.eval_single:
        for path, file in zip(args.pred_results, files):
            evaluate(path, [detection for rows in file.values() for detection in rows])
    fused = fuse(files, args.weights or None, args.fusion_iou_thr, args.skip_box_thr, args.conf_type)
    numbers = evaluate(f'{len(files)} files fused', fused)
    if args.save_fusion_results:
        out = Path(args.out_dir) / 'fusion_results.json'
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(fused))
        print(f'The fused detections are in {out}')
    return numbers


if __name__ == '__main__':
    run(main)
