"""The report of a training or a test: one page, its numbers as a table, and what other runs are compared with.

The page needs no network and no script: pictures and charts are inside.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.apis import report_page as html
from mmdet.apis.report_config import config_section, keep_changes
from mmdet.apis.report_errors import drawn_errors
from mmdet.apis.report_history import History
from mmdet.evaluation.collected import Collected, average_precision_of, match
from mmdet.version import __version__

DETECTIONS, PAGE, TABLE = 'evaluation.npz', 'index.html', 'results.csv'
IOU_THRS = np.linspace(0.5, 0.95, 10)
MOST_CLASSES = 30  # in charts and matrices, the most frequent


def write_report(folder: str | Path, cfg: Any = None, dataset: Any = None, model: Any = None, title: str = '') -> Path:
    """Write ``index.html`` and ``results.csv`` into ``folder/report`` of what is in ``folder``.

    Args:
        folder: A work dir of a training, or the folder of a test.
        cfg: The config, for what it changes in its bases; by default what the run kept of it.
        dataset: That was validated on, for how to load its pictures.

    Returns:
        The page.
    """
    folder = Path(folder)
    out = folder / 'report'
    out.mkdir(parents=True, exist_ok=True)
    if cfg is not None:
        keep_changes(cfg, out)
    history = History(folder)
    kept = Collected.load(out / DETECTIONS) if (out / DETECTIONS).is_file() else None
    sections = [('Result', _result(history, kept)), ('Training', _curves(history))]
    if kept is not None:
        sections += [('Labels', _labels(kept)), *_evaluation(kept), *_errors(kept, dataset)]
    batches = [html.picture(path.read_bytes()) for path in sorted(out.glob('batch_*.jpg'))]
    sections.append(('First batches, as the network saw them', html.row(*batches) if batches else ''))
    sections += [
        ('Speed', _speed(history, model)),
        ('Config', config_section(cfg, folder, out)),
        ('Versions', _versions()),
    ]
    if history.train:
        history.write_csv(out / TABLE)
    page = out / PAGE
    temporary = page.with_name(f'.{PAGE}.{os.getpid()}')
    temporary.write_text(html.page(title or f'Report of {folder.resolve().name}', sections), encoding='utf-8')
    os.replace(temporary, page)
    return page


# --------------------------------------------------------------------------------------------------------------------
# What happened
def _result(history: History, kept: Collected | None) -> str:
    text = ''
    if kept is not None:
        meta = kept.meta
        where = f'epoch {meta["epoch"]}' if meta.get('epoch') else f'the weights {meta.get("checkpoint", "")}'
        text = f'<p>All below is of {html.escape(where)}: {html.escape(meta["metric"])} <b>{meta["score"]:.3f}</b>.</p>'
        text += _metrics(meta['metrics'])
    if history.runs > 1:
        text += f'<p>The curves join {history.runs} runs, each of which went on from the one before.</p>'
    return text


def _metrics(metrics: Mapping[str, float]) -> str:
    """A table with a row for each kind of mAP, and what is no mAP below; classes have a table of their own."""
    rows: dict[str, dict[str, float]] = {}
    others = []
    for name, value in metrics.items():
        kind, found, rest = name.partition('_mAP')
        if found:
            rows.setdefault(kind, {})[f'mAP{rest}'] = _known(value)
        elif not name.endswith('_precision'):
            others.append((name, _known(value)))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    nan = float('nan')
    means = html.table(['', *columns], [(kind, *(row.get(c, nan) for c in columns)) for kind, row in rows.items()])
    return means + html.table(['metric', 'value'], others)


def _curves(history: History) -> str:
    if not history.train:
        return ''
    steps = [row['step'] for row in history.train]
    of = lambda name: (steps, [row.get(name, np.nan) for row in history.train])
    losses = [name for name in history.columns(history.train) if 'loss' in name]
    charts = [html.lines('loss', {name: of(name) for name in losses}, 'step')]
    charts.append(html.lines('learning rate', {'lr': of('lr')}, 'step'))
    norms = [name for name in history.columns(history.train) if 'grad_norm' in name]
    charts.append(html.lines('norm of the gradients', {name: of(name) for name in norms}, 'step'))
    means = [name for name in history.columns(history.val) if not name.endswith('_precision')]
    unit = 'epoch' if history.by_epoch else 'step'
    series = {n: ([r['step'] for r in history.val], [_known(r.get(n)) for r in history.val]) for n in means}
    charts.append(html.lines('validation', series, unit))
    return html.row(*charts)


def _known(value: Any) -> float:
    return float('nan') if value is None or value == -1 else float(value)


def _speed(history: History, model: Any) -> str:
    rows = []
    for name, text in (
        ('time', 'seconds a step'),
        ('data_time', 'of them waiting for data'),
        ('memory', 'MiB on the GPU'),
    ):
        values = [row[name] for row in history.train if name in row]
        if values:
            rows.append((text, float(np.median(values))))
    values = [row['time'] for row in history.val if 'time' in row]
    if values:
        rows.append(('seconds a batch in validation', float(np.median(values))))
    if model is not None:
        rows.append(('million parameters', sum(p.numel() for p in model.parameters()) / 1e6))
    return html.table(['', 'median'], rows)


def _versions() -> str:
    import mmengine
    import torch

    rows = [('mmdet', __version__), ('PyTorch', torch.__version__), ('mmengine', mmengine.__version__)]
    rows += [('Python', platform.python_version()), ('system', platform.platform())]
    if torch.cuda.is_available():
        rows.append(('GPU', torch.cuda.get_device_name()))
    rows.append(('written', time.strftime('%Y-%m-%d %H:%M')))
    return html.table(['', ''], rows)


# --------------------------------------------------------------------------------------------------------------------
# What was detected
def _frequent(kept: Collected) -> list[int]:
    """Labels, at most :data:`MOST_CLASSES`, with the most objects, in their order."""
    counts = np.bincount(kept.gt_label, minlength=len(kept.classes))
    return sorted(np.argsort(-counts, kind='stable')[:MOST_CLASSES].tolist())


def _labels(kept: Collected) -> str:
    counts = np.bincount(kept.gt_label[~kept.gt_ignore], minlength=len(kept.classes))
    sides = np.sqrt(np.maximum(kept.gt_box[:, 2:] - kept.gt_box[:, :2], 0).prod(-1))
    sizes = np.digitize(sides, [32, 96])
    per_picture = np.bincount(kept.gt_image, minlength=len(kept.paths))
    text = f'<p>{len(kept.gt_image)} objects in {len(kept.paths)} pictures of the validation, '
    text += (
        f'{int((per_picture == 0).sum())} pictures without any, at most {int(per_picture.max(initial=0))} in one.</p>'
    )
    charts = [
        html.bars('objects of each class', {kept.classes[label]: int(counts[label]) for label in _frequent(kept)}),
        html.bars('sizes', {name: int((sizes == i).sum()) for i, name in enumerate(('small', 'medium', 'large'))}),
    ]
    numbers, edges = np.histogram(sides, 20)
    charts.append(
        html.lines(
            'side of the objects, pixels',
            {'objects': ((edges[1:] + edges[:-1]) / 2, numbers)},
            '',
            (0, max(numbers.max(), 1)),
        )
    )
    return text + html.row(*charts)


def evaluator_of(kept: Collected) -> Any:
    """COCO's evaluation of what was kept, see :func:`mmdet.evaluation.functional.evaluate_coco`."""
    from mmdet.evaluation.functional.coco_eval import evaluate_coco, load_coco

    xywh = lambda boxes: np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    images = [dict(id=i, width=int(w), height=int(h)) for i, (w, h) in enumerate(kept.sizes)]
    objects = [
        dict(id=n, image_id=i, category_id=label, bbox=box, area=box[2] * box[3], iscrowd=int(ignore))
        for n, (i, label, box, ignore) in enumerate(
            zip(kept.gt_image.tolist(), kept.gt_label.tolist(), xywh(kept.gt_box), kept.gt_ignore.tolist()), 1
        )
    ]
    categories = [dict(id=label, name=str(label)) for label in range(len(kept.classes))]
    coco = load_coco(dict(images=images, annotations=objects, categories=categories))
    rows = zip(kept.det_image.tolist(), kept.det_label.tolist(), kept.det_score.tolist(), xywh(kept.det_box))
    detections = [dict(image_id=i, category_id=label, score=score, bbox=box) for i, label, score, box in rows]
    return evaluate_coco(coco, detections)


def confidence_curves(kept: Collected, right: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (K, S) of the detections that score at least ``points`` (S,).

    Args:
        right: (N,) of :func:`.collected.match` at one threshold.
    """
    precision = np.full((len(kept.classes), len(points)), np.nan)
    recall = precision.copy()
    for label in range(len(kept.classes)):
        total = ((kept.gt_label == label) & ~kept.gt_ignore).sum()
        mine = (kept.det_label == label) & (right >= 0)
        scores, hits = kept.det_score[mine], right[mine] == 1
        order = np.argsort(scores)
        before = np.searchsorted(scores[order], points)
        from_here = np.append(np.cumsum(hits[order][::-1])[::-1], 0)[before]
        count = len(scores) - before
        precision[label] = np.where(count > 0, from_here / np.maximum(count, 1), np.nan)
        recall[label] = from_here / total if total else np.nan
    return precision, recall


def _evaluation(kept: Collected) -> list[tuple[str, str]]:
    from mmdet.evaluation.functional.diagnostics import (
        calibration,
        confusion_matrix,
        error_types,
        precision_recall_curves,
    )

    right, _ = match(kept, IOU_THRS)
    points = np.linspace(0, 1, 101)
    precision, recall = confidence_curves(kept, right[0], points)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    f1 = np.where(np.isfinite(recall) & ~np.isfinite(f1), 0, f1)
    ap = average_precision_of(kept, right)
    counts = np.bincount(kept.gt_label[~kept.gt_ignore], minlength=len(kept.classes))
    rows = []
    for label, name in enumerate(kept.classes):
        if counts[label]:
            best = int(np.nanargmax(f1[label]))
            cells = (precision[label, best], recall[label, best], f1[label, best], points[best])
            rows.append((name, int(counts[label]), ap[:, label].mean(), ap[0, label], *cells))
    head = ['class', 'objects', 'AP', 'AP50', 'precision', 'recall', 'F1', 'at score']
    sections = [('Classes', html.table(head, sorted(rows, key=lambda row: row[2])))]

    shown, name_of = _frequent(kept), kept.classes
    evaluator = evaluator_of(kept)
    curves = precision_recall_curves(evaluator)
    per_class = lambda table, x: {name_of[label]: (x, table[label]) for label in shown}
    charts = [
        html.lines(
            'precision over recall, IoU 0.5', per_class(curves['precision'], curves['recall']), 'recall', (0, 1)
        ),
        html.lines('F1 over the least score', per_class(f1, points), 'score', (0, 1), (0, 1)),
        html.lines('precision over the least score', per_class(precision, points), 'score', (0, 1), (0, 1)),
        html.lines('recall over the least score', per_class(recall, points), 'score', (0, 1), (0, 1)),
    ]
    sections.append(('Curves', html.row(*charts)))
    threshold = best_threshold(f1, points)
    counted = confusion_matrix(evaluator, score_thr=threshold)
    at = [*shown, len(kept.classes)]
    text = f'<p>Detections that score at least {threshold:.2f}, where the mean F1 is highest; IoU 0.5.</p>'
    sections.append(
        ('Confusions', text + html.matrix(counted[np.ix_(at, at)], [*(name_of[i] for i in shown), 'nothing']))
    )
    sections.append(('Kinds of errors', _error_types(error_types(evaluator))))
    sections.append(('Calibration', _calibration(calibration(evaluator))))
    return sections


def best_threshold(f1: np.ndarray, points: np.ndarray) -> float:
    """The score at which the mean F1 (K, S) of the classes is highest."""
    known = np.isfinite(f1).any(1)
    return float(points[np.nan_to_num(f1[known]).mean(0).argmax()]) if known.any() else 0.5


_KINDS = {
    'Cls': 'wrong class',
    'Loc': 'badly placed',
    'Both': 'wrong class and badly placed',
    'Dupe': 'second on an object',
    'Bkg': 'on no object',
    'Miss': 'object not found',
}


def _error_types(found: Mapping) -> str:
    rows = [
        (text, int(found['counts'].get(kind, 0)), float(found['cost'].get(kind, 0))) for kind, text in _KINDS.items()
    ]
    cost = {text: value for text, _, value in rows}
    note = '<p>The AP50 that would be won without the errors of each kind (TIDE, arXiv:2008.08115).</p>'
    return note + html.row(html.bars('AP50 lost', cost), html.table(['kind', 'count', 'AP50 lost'], rows))


def _calibration(found: Mapping) -> str:
    bins = [entry for entry in found['bins'] if entry['count']]
    series = {
        'detections': ([b['score'] for b in bins], [b['right'] for b in bins]),
        'a calibrated detector': ([0, 1], [0, 1]),
    }
    note = f'<p>The part of detections that are right, by score; expected calibration error {found["error"]:.3f}.</p>'
    return note + html.row(html.lines('right, of those with a score', series, 'score', (0, 1)))


def _errors(kept: Collected, dataset: Any) -> list[tuple[str, str]]:
    sections = []
    for name, tiles in drawn_errors(kept, dataset).items():
        content = ''.join(html.picture(jpeg, caption) for jpeg, caption in tiles)
        sections.append((name, f'<div class="row tiles">{content}</div>' if tiles else ''))
    return sections
