"""The pictures of a dataset on which a detector does best and worst, drawn beside their ground truth."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.errors import UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('prediction_path', help='predictions as tools/test.py --out wrote them')
    parser.add_argument('show_dir', help='folder for the pictures, under good/ and bad/')
    parser.add_argument('--show', action='store_true', help='show the pictures in a window as well')
    parser.add_argument('--wait-time', type=float, default=0, help='seconds to show each picture, 0 waits for a key')
    parser.add_argument('--topk', type=int, default=20, help='pictures of each kind')
    parser.add_argument('--show-score-thr', type=float, default=0.0, help='detections below it are not drawn')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def image_map(info, pred, classes, iou_thrs=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)):
    """Mean AP of one picture over its classes and ``iou_thrs``; with no object 1 if nothing is detected, else 0."""
    import numpy as np

    from mmdet.evaluation import eval_map

    def boxes(entries):
        return np.array([entry['bbox'] for entry in entries], dtype=np.float32).reshape(-1, 4)

    objects = [entry for entry in info['instances'] if not entry.get('ignore_flag', 0)]
    ignored = [entry for entry in info['instances'] if entry.get('ignore_flag', 0)]
    scores, labels = np.asarray(pred['scores']), np.asarray(pred['labels'])
    if not objects:
        return float(not len(scores))
    rows = np.concatenate([np.asarray(pred['bboxes']).reshape(-1, 4), scores[:, None]], 1).astype(np.float32)
    annotation = dict(
        bboxes=boxes(objects),
        labels=np.array([entry['bbox_label'] for entry in objects]),
        bboxes_ignore=boxes(ignored),
        labels_ignore=np.array([entry['bbox_label'] for entry in ignored], dtype=int),
    )
    dets = [rows[labels == c] for c in range(classes)]
    return float(np.mean([eval_map([dets], [annotation], iou_thr=thr, logger='silent')[0] for thr in iou_thrs]))


def rank(dataset, results, topk):
    """``(score, index, prediction)`` of the best and of the worst pictures, each from the extreme inwards."""
    from mmdet.apis.offline import match_results
    from mmdet.datasets.walk import locate

    ranked = []
    for index, result in match_results(dataset, results):
        leaf, inner = locate(dataset, index)
        score = image_map(leaf.get_data_info(inner), result['pred_instances'], len(leaf.metainfo['classes']))
        ranked.append((score, index, result))
    if not ranked:
        raise UserValueError('There are no results.')
    ranked.sort(key=lambda entry: entry[:2])
    topk = min(topk, len(ranked))
    return ranked[::-1][:topk], ranked[:topk]


def draw(entries, dataset, pictures, visualizer, folder, args):
    import numpy as np
    import torch
    from mmengine.structures import InstanceData

    from mmdet.datasets.walk import locate
    from mmdet.structures import DetDataSample

    for score, index, result in entries:
        leaf, inner = locate(dataset, index)
        info, visualizer.dataset_meta = leaf.get_data_info(inner), leaf.metainfo
        image = pictures(info['img_path'])
        objects = [entry for entry in info['instances'] if not entry.get('ignore_flag', 0)]
        gt = InstanceData(
            bboxes=torch.tensor(np.array([entry['bbox'] for entry in objects], dtype=np.float32).reshape(-1, 4)),
            labels=torch.tensor([entry['bbox_label'] for entry in objects], dtype=torch.long),
        )
        pred = InstanceData(**result['pred_instances'])
        if isinstance(pred.get('masks'), list):
            pred.masks = decode(pred.masks, image.shape[:2])
        sample = DetDataSample(gt_instances=gt, pred_instances=pred)
        visualizer.add_datasample(
            'image',
            image,
            sample,
            show=args.show,
            wait_time=args.wait_time,
            draw_gt=True,
            draw_pred=True,
            pred_score_thr=args.show_score_thr,
            out_file=str(folder / pictures.names(info['img_path'], f'_{score:.3f}')),
        )


def decode(masks, shape):
    import numpy as np
    import torch

    from mmdet.structures.mask import bitmaps_of

    return torch.from_numpy(bitmaps_of(masks) if masks else np.zeros((0, *shape))).bool()


def main(args):
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of, load_results
    from mmdet.checks import load_with_options
    from mmdet.registry import VISUALIZERS
    from mmdet.visualization import LoadedPictures
    from mmdet.visualization.window import require_display

    if args.show:
        require_display('leave out --show, the pictures are in show_dir')
    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = dataset_of(cfg, test_mode=True)
    visualizer = VISUALIZERS.build(dict(type='DetLocalVisualizer', name='analyze_results'))
    pictures = LoadedPictures(dataset)
    best, worst = rank(dataset, load_results(args.prediction_path), args.topk)
    for kind, entries in (('good', best), ('bad', worst)):
        folder = Path(args.show_dir) / kind
        draw(entries, dataset, pictures, visualizer, folder, args)
        scores = ', '.join(f'{score:.3f}' for score, *_ in entries)
        print(f'{folder}: mAP {scores}')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
