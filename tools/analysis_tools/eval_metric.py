"""Evaluate predictions that tools/test.py --out wrote, without the model."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.errors import UserFileError, UserValueError


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

    by_id = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        by_id[info['img_id']] = info
    for prediction in predictions:
        info = by_id.get(prediction['img_id'])
        if info is None:
            raise UserValueError(
                f'The results have an image {prediction["img_id"]!r} that the test dataset does not have.'
            )
        prediction['instances'] = info.get('instances', [])
        prediction.setdefault('img_path', info.get('img_path'))
        for key, flag in (('gt_instances', 0), ('ignored_instances', 1)):
            mine = [entry for entry in prediction['instances'] if entry.get('ignore_flag', 0) == flag]
            prediction[key] = dict(
                bboxes=np.array([entry['bbox'] for entry in mine], dtype=np.float32).reshape(-1, 4),
                labels=np.array([entry['bbox_label'] for entry in mine], dtype=np.int64),
            )


def main(args):
    from mmengine.fileio import load
    from mmengine.registry import init_default_scope

    from mmdet.config import load_config
    from mmdet.registry import DATASETS, METRICS

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if not Path(args.pkl_results).is_file():
        raise UserFileError(f'There are no results at {args.pkl_results}; tools/test.py --out writes them.')
    predictions = load(args.pkl_results)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    add_ground_truth(predictions, dataset)
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    numbers = {}
    for evaluator in evaluators:
        evaluator = dict(evaluator)
        if args.class_thresholds and evaluator['type'] == 'CocoMetric':
            evaluator['class_thresholds'] = str(Path(args.pkl_results).parent / 'class_thresholds.json')
        metric = METRICS.build(evaluator)
        metric.dataset_meta = dataset.metainfo
        metric.process({}, predictions)
        numbers.update(metric.evaluate(len(predictions)))
    for name, value in numbers.items():
        print(f'{name}: {value:.4f}')
    return numbers


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
