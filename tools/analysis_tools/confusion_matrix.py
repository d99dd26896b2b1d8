"""Which classes a detector takes for which, from predictions that tools/test.py --out wrote."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.errors import UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('prediction_path', help='predictions as tools/test.py --out wrote them')
    parser.add_argument('save_dir', help='folder for confusion_matrix.png')
    parser.add_argument('--show', action='store_true', help='show the matrix in a window')
    parser.add_argument('--color-theme', default='Blues', help='a colour map of matplotlib')
    parser.add_argument('--score-thr', type=float, default=0.3, help='detections below it are left out')
    parser.add_argument('--tp-iou-thr', type=float, default=0.5, help='overlap from which a detection is on an object')
    parser.add_argument('--nms-iou-thr', type=float, help='NMS in each class first; none by default')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def count_image(matrix, boxes, labels, pred, score_thr=0.0, nms_iou_thr=None, tp_iou_thr=0.5):
    """Add one image to the matrix (classes + 1, classes + 1): rows are true classes, columns detected ones.

    A detection counts for every object that it overlaps, and as background in the last row if there is none. An
    object without a detection of its own class counts in the last column.
    """
    from mmdet.evaluation import bbox_overlaps

    dets, scores, found = (np.asarray(pred[key]) for key in ('bboxes', 'scores', 'labels'))
    kept = scores >= score_thr
    if nms_iou_thr is not None:
        kept &= nms_mask(dets, scores, found, nms_iou_thr)
    dets, found = dets[kept].reshape(-1, 4), found[kept].astype(int)
    on = bbox_overlaps(dets, boxes) >= tp_iou_thr  # (detections, objects)
    d, g = np.nonzero(on)
    np.add.at(matrix, (labels[g], found[d]), 1)
    np.add.at(matrix[-1], found[~on.any(1)], 1)
    right = (on & (found[:, None] == labels[None])).any(0)
    np.add.at(matrix[:, -1], labels[~right], 1)


def nms_mask(dets, scores, labels, iou_thr):
    import torch

    from mmdet.ops import batched_nms

    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (dets.astype(np.float32), scores, labels))
    _, keep = batched_nms(*tensors, dict(type='nms', iou_threshold=iou_thr))
    mask = np.zeros(len(scores), dtype=bool)
    mask[keep.numpy()] = True
    return mask


def calculate_confusion_matrix(dataset, results, score_thr=0.0, nms_iou_thr=None, tp_iou_thr=0.5):
    """The matrix over a dataset, wrapped or not, that has a prediction for each of its samples."""
    from mmdet.apis.offline import match_results
    from mmdet.datasets.walk import data_info

    classes = len(one_set_of_classes(dataset))
    matrix = np.zeros((classes + 1, classes + 1))
    for index, result in match_results(dataset, results, whole=True):
        info = data_info(dataset, index)
        objects = [entry for entry in info['instances'] if not entry.get('ignore_flag', 0)]
        boxes = np.array([entry['bbox'] for entry in objects], dtype=np.float32).reshape(-1, 4)
        labels = np.array([entry['bbox_label'] for entry in objects], dtype=int)
        count_image(matrix, boxes, labels, result['pred_instances'], score_thr, nms_iou_thr, tp_iou_thr)
    return matrix


def one_set_of_classes(dataset):
    """The class names of a dataset, or of all inside of it."""
    from mmdet.datasets.walk import classes_of

    found = {tuple(classes) for _, classes in classes_of(dataset)}
    if len(found) > 1:
        raise UserValueError('The datasets of the ConcatDataset have different classes: look at one of them at a time.')
    return found.pop()


def plot_confusion_matrix(
    confusion_matrix,
    labels,
    save_dir=None,
    show=False,
    title='Confusion matrix, % of a true class',
    color_theme='Blues',
):
    """Draw the matrix in percent of its rows; ``labels`` ends with the background."""
    import matplotlib

    if not show:
        matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from mmdet.visualization.text import class_names, font_families, plain_text

    percent = 100 * confusion_matrix / np.maximum(confusion_matrix.sum(1, keepdims=True), 1)
    count, labels = len(labels), class_names(labels)
    families, labels = font_families(labels), [plain_text(label) for label in labels]
    side = max(4.5, 0.55 * count + 2.5) if count <= 40 else 0.22 * count + 3
    font = 9 if count <= 40 else 6
    figure, axis = plt.subplots(figsize=(side + 0.8, side), dpi=150)
    image = axis.imshow(percent, cmap=color_theme, vmin=0, vmax=100)
    figure.colorbar(image, ax=axis, fraction=0.046, pad=0.04).ax.tick_params(labelsize=font)
    axis.set_title(title, fontsize=font + 2)
    axis.set_xlabel('detected as', fontsize=font + 1)
    axis.set_ylabel('true class', fontsize=font + 1)
    axis.set_xticks(
        range(count), labels, rotation=45, ha='right', rotation_mode='anchor', fontsize=font, family=families
    )
    axis.set_yticks(range(count), labels, fontsize=font, family=families)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which='minor', color='white', linewidth=0.6)
    axis.tick_params(which='minor', length=0)
    if count <= 40:
        dark = image.cmap(image.norm(percent))[..., :3] @ [0.299, 0.587, 0.114] < 0.5
        for row, column in np.ndindex(percent.shape):
            if confusion_matrix[row, column]:
                color = 'white' if dark[row, column] else 'black'
                text = f'{percent[row, column]:.0f}'
                axis.text(column, row, text, ha='center', va='center', color=color, fontsize=font - 1)
    figure.tight_layout()
    if save_dir is not None:
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        figure.savefig(Path(save_dir) / 'confusion_matrix.png')
        print(f'saved {Path(save_dir) / "confusion_matrix.png"}')
    if show:
        plt.show()
    plt.close(figure)


def main(args):
    from mmengine.registry import init_default_scope

    from mmdet.apis.offline import dataset_of, load_results
    from mmdet.checks import load_with_options
    from mmdet.visualization.window import require_display

    if args.show:
        require_display('leave out --show, the matrix is in save_dir')
    cfg = load_with_options(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = dataset_of(cfg, test_mode=True)
    matrix = calculate_confusion_matrix(
        dataset, load_results(args.prediction_path), args.score_thr, args.nms_iou_thr, args.tp_iou_thr
    )
    names = (*one_set_of_classes(dataset), 'background')
    plot_confusion_matrix(matrix, names, args.save_dir, args.show, color_theme=args.color_theme)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
