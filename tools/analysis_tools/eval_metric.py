"""Evaluate predictions that tools/test.py --out wrote, without the model."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('pkl_results', help='predictions as tools/test.py --out wrote them')
    parser.add_argument('--class-thresholds', action='store_true', help='find the best score threshold of each class')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that overwrite those of the config, such as test_evaluator.classwise=True',
    )
    return parser.parse_args(argv)


def add_ground_truth(predictions, dataset):
    """Give each prediction the annotations of its image, in pixels of the original image."""
    import numpy as np

    from mmdet.apis.offline import match_results
    from mmdet.datasets.walk import locate

    for index, prediction in match_results(dataset, predictions):
        leaf, inner = locate(dataset, index)
        info = leaf.get_data_info(inner)
        prediction['instances'] = info.get('instances', [])
        prediction.setdefault('img_path', info.get('img_path'))
        prediction['ann_file'] = str(leaf.ann_file)
        if hasattr(dataset, 'get_dataset_source'):
            prediction['dataset_index'] = dataset.get_dataset_source(index)
        for key, flag in (('gt_instances', 0), ('ignored_instances', 1)):
            mine = [entry for entry in prediction['instances'] if entry.get('ignore_flag', 0) == flag]
            prediction[key] = dict(
                bboxes=np.array([entry['bbox'] for entry in mine], dtype=np.float32).reshape(-1, 4),
                labels=np.array([entry['bbox_label'] for entry in mine], dtype=np.int64),
            )


def main(args):
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of, load_results
    from mmdet.checks import load_with_options
    from mmdet.evaluation.evaluator import build_evaluator

    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    predictions = load_results(args.pkl_results)
    dataset = dataset_of(cfg)
    add_ground_truth(predictions, dataset)
    evaluator = build_evaluator(cfg.test_evaluator)
    if args.class_thresholds:
        for metric in evaluator.metrics:
            if hasattr(metric, 'class_thresholds'):
                metric.class_thresholds = str(Path(args.pkl_results).parent / 'class_thresholds.json')
    evaluator.dataset_meta = dataset.metainfo
    numbers = evaluator.offline_evaluate(predictions, chunk_size=len(predictions) or 1)
    for name, value in numbers.items():
        print(f'{name}: {value:.4f}')
    return numbers


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
