"""Where the AP of a detector is lost: the curves of each class with one kind of error after the other excused.

C75, C50: AP at IoU 0.75 and 0.5. Loc: localisation excused (IoU 0.1). Sim: confusion with classes of the same
supercategory excused. Oth: with any class. BG: false alarms on background excused. FN: all of it, what is still missing
there was not found at all. https://cocodataset.org/#detection-eval, "Analysis of detection errors".
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError
from mmdet.utils.output_names import OutputNames

KINDS = ('C75', 'C50', 'Loc', 'Sim', 'Oth', 'BG', 'FN')
COLORS = ('#ffffff', '#c6dbef', '#6baed6', '#fdd0a2', '#fd8d3c', '#c7c1e0', '#f4a3a3')
AREAS = ('all', 'small', 'medium', 'large')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('result', help='results in COCO format, as CocoMetric writes them with outfile_prefix')
    parser.add_argument('out_dir', help='folder for the pictures, a subfolder for each type')
    parser.add_argument('--ann', default='data/coco/annotations/instances_val2017.json', help='annotation file')
    parser.add_argument('--types', nargs='+', default=['bbox'], choices=['bbox', 'segm'])
    parser.add_argument('--extended', action='store_true', help='a picture of each size of objects as well')
    return parser.parse_args(argv)


def excused(truth, cat_id, others):
    """The ground truth with the objects of ``others`` as crowds of ``cat_id``: detections on them count neither way."""
    annotations = []
    for annotation in truth['annotations']:
        if annotation['category_id'] in others:
            annotation = {**annotation, 'category_id': cat_id, 'iscrowd': 1}
        if annotation['category_id'] == cat_id:
            annotations.append(annotation)
    return {**truth, 'annotations': annotations}


def curves_of_class(truth, detections, cat_id, iou_type):
    """Precision (7 kinds, 101 recall points, 4 areas) of one class; -1 where the class has no object of an area."""
    from mmdet.evaluation.functional.coco_eval import evaluate_coco, load_coco

    mine = [entry for entry in detections if entry['category_id'] == cat_id]
    if iou_type == 'segm':
        mine = [{key: value for key, value in entry.items() if key != 'bbox'} for entry in mine]
    by_id = {category['id']: category for category in truth['categories']}
    family = by_id[cat_id].get('supercategory')
    similar = {i for i, category in by_id.items() if i != cat_id and category.get('supercategory') == family}

    def precision(others, iou_thrs):
        coco = load_coco(excused(truth, cat_id, others))
        evaluator = evaluate_coco(
            coco, [dict(e) for e in mine], iou_type, cat_ids=[cat_id], iou_thrs=iou_thrs, max_dets=[100]
        )
        return np.asarray(evaluator.eval['precision'])[:, :, 0, :, 0]  # (T, R, A)

    curves = np.concatenate(
        [
            precision(set(), [0.75, 0.5, 0.1]),
            precision(similar if family is not None else set(), [0.1]),
            precision(set(by_id) - {cat_id}, [0.1]),
        ]
    )
    curves = np.maximum.accumulate(curves, 0)  # an excuse never costs
    background = np.where(curves[-1:] > 0, 1.0, curves[-1:])
    everything = np.where(curves[-1:] > -1, 1.0, -1.0)
    return np.concatenate([curves, background, everything])


def plot(curves, title, path):
    """Draw precision over recall (7, 101) as a stack of areas with the AP of each kind."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from mmdet.visualization.text import font_families, plain_text

    recall = np.linspace(0, 1, curves.shape[1])
    figure, axis = plt.subplots(figsize=(6.4, 5), dpi=150)
    below = np.zeros_like(recall)
    handles = []
    for kind, color, curve in zip(KINDS, COLORS, curves, strict=True):
        label = f'{curve.mean():.3f} {kind}'
        handles.append(axis.fill_between(recall, below, curve, facecolor=color, edgecolor='none', label=label))
        axis.plot(recall, curve, color='black', linewidth=0.8 if kind != 'C50' else 1.6)
        below = curve
    handles[0].set_edgecolor('black')
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel='recall', ylabel='precision')
    axis.set_title(plain_text(title), family=font_families(title))
    axis.legend(handles=handles, loc='lower left', fontsize=9, title='AP with errors excused', title_fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def analyze(truth, detections, out_dir, iou_type='bbox', extended=False):
    """Draw every class and their mean; the AP (K + 1, 7) of each class and, last, the mean over all areas."""
    folder = Path(out_dir) / iou_type
    folder.mkdir(parents=True, exist_ok=True)
    names, every, files = [], [], OutputNames()
    for category in truth['categories']:
        names.append(category['name'])
        every.append(curves_of_class(truth, detections, category['id'], iou_type))
    every = np.stack(every)  # (K, 7, R, A)
    masked = np.ma.masked_less(every, 0)
    for a, area in enumerate(AREAS if extended else AREAS[:1]):
        rows = zip([*names, 'allclass'], [*masked[..., a], masked[..., a].mean(0)], strict=True)
        for number, (name, curves) in enumerate(rows):
            if not np.ma.getmaskarray(curves).all():
                file = f'{iou_type}-{name.replace("/", "_").replace(" ", "_")}-{area}.png'
                file = files(f'{number}/{file}')  # a file for each class, whatever its name
                plot(np.ma.filled(curves, 0), f'{name} ({area})' if extended else name, folder / file)
    table = np.ma.concatenate([masked[..., 0], masked[..., 0].mean(0)[None]]).mean(-1)
    return names, np.ma.filled(table, np.nan)


def main(args):
    import json

    from terminaltables import AsciiTable

    for path in (args.ann, args.result):
        if not Path(path).is_file():
            raise UserFileError(f'There is no file {path}.')
    truth, detections = (json.loads(Path(path).read_bytes()) for path in (args.ann, args.result))
    for iou_type in args.types:
        names, table = analyze(truth, detections, args.out_dir, iou_type, args.extended)
        rows = [[iou_type, *KINDS]]
        for name, values in zip([*names, 'mean'], table, strict=True):
            rows.append([name, *('-' if np.isnan(value) else f'{value:.3f}' for value in values)])
        print(AsciiTable(rows).table)
        print(f'pictures in {Path(args.out_dir) / iou_type}')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
