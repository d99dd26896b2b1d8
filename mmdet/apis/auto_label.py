"""Labels for a folder of pictures, made by a detector: COCO JSON, ODVG, and a page to look through them."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData

from mmdet.datasets.raw import RawBox, RawPicture
from mmdet.datasets.reading.odvg_file import write_lines
from mmdet.datasets.reading.to_odvg import write_json, write_label_map
from mmdet.errors import UserFileError, UserValueError
from mmdet.evaluation import DumpODVGResults
from mmdet.structures import DetDataSample
from mmdet.utils.output_names import OutputNames, on_one_line
from mmdet.utils.prompts import clean_names, prompt_of_sentence
from mmdet.utils.score_thresholds import resolve_score_thresholds
from mmdet.visualization.sheet import write_image

from .arguments import texts_of
from .det_inferencer import DetInferencer, with_progress
from .detector import locate
from .inference import IMAGE_SUFFIXES, as_prompt, require_texts
from .results import write_predictions

CHUNK = 32
"""Pictures whose predictions are held at a time."""
COCO, ODVG, LABEL_MAP, PAGE = 'coco.json', 'odvg.json', 'label_map.json', 'index.html'


@dataclass
class Labels:
    """What was found in a folder.

    Attributes:
        names: Names of the classes by label.
        lines: ODVG lines, a picture each.
        coco: ``images`` and ``annotations`` of a COCO file.
        drawings: File of the drawing of each picture, relative to the page; empty without drawings.
        skipped: Pictures that cannot be read, and why.
    """

    names: list[str]
    lines: list[dict] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    drawings: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """Boxes of each class."""
        return Counter(self.names[entry['category_id'] - 1] for entry in self.annotations)

    def label_of(self, name: str) -> int:
        """Label of a class, which is new if it has none yet."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def to_raw(self, folder: str | Path) -> list[RawPicture]:
        """As annotation files are written from it; ``folder`` is that of the pictures."""
        found: dict[int, RawPicture] = {}
        for image in self.images:
            name, size = image['file_name'], (image['width'], image['height'])
            found[image['id']] = RawPicture(name, os.path.join(folder, name), size)
        for entry in self.annotations:
            x, y, width, height = entry['bbox']
            name, code = self.names[entry['category_id'] - 1], entry.get('segmentation')
            found[entry['image_id']].boxes.append(
                RawBox((x, y, x + width, y + height), name, '', code, score=entry['score'])
            )
        return list(found.values())


def label(args: Any) -> None:
    """What ``mmdet label`` and ``tools/auto_label.py`` do, see :func:`.arguments.add_label_arguments`."""
    import sys

    if args.class_thr and args.class_thresholds:
        raise UserValueError('--class-thr and --class-thresholds both say thresholds: give one of them')
    out = Path(args.out)
    for form in args.save_as or ():
        if (out / form).is_dir() and any((out / form).iterdir()):
            raise UserFileError(f'{str(out / form)!r} is not empty; choose another --out')
    config, weights = locate(args.model, args.weights)
    inferencer = DetInferencer(config, weights, device=args.device)
    if args.chunked_size is not None:
        inferencer.model.test_cfg.chunked_size = args.chunked_size
    labels = label_folder(
        inferencer,
        args.folder,
        out,
        texts=' '.join(args.texts) if args.sentence and args.texts else as_prompt(texts_of(args)),
        custom_entities=not args.sentence,
        score_thr=args.score_thr,
        class_thresholds=dict(args.class_thr) if args.class_thr else args.class_thresholds,
        nms_thr=args.nms_thr,
        batch_size=args.batch_size,
        draw=not args.no_page,
    )
    for path, reason in labels.skipped.items():
        print(f'left out: {on_one_line(path)}: {on_one_line(reason)}', file=sys.stderr)
    counts = labels.counts()
    for name in sorted(labels.names, key=lambda name: -counts[name]):
        print(f'{counts[name]:6} {name}')
    for form in args.save_as or ():
        for line in write_predictions(labels.to_raw(args.folder), labels.names, out / form, form):
            print(f'lost: {line}')
        print(f'as {form}: {out / form}')
    print(f'{len(labels.images)} pictures, {len(labels.annotations)} boxes in {args.out}')


def find_pictures(folder: str | Path) -> list[Path]:
    """The pictures in a folder and below, in order of name.

    Raises:
        UserFileError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserFileError(f'there is no folder {str(folder)!r}')
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise UserFileError(f'folder {str(folder)!r} holds no picture ({", ".join(IMAGE_SUFFIXES)})')
    return found


def label_folder(
    inferencer: DetInferencer,
    folder: str | Path,
    out_dir: str | Path,
    texts: str | None = None,
    custom_entities: bool = True,
    score_thr: float = 0.3,
    class_thresholds: Mapping[str, float] | str | None = None,
    nms_thr: float | None = 0.5,
    batch_size: int = 1,
    draw: bool = True,
) -> Labels:
    """Detect on every picture of a folder and write what is found.

    ``out_dir`` gets ``coco.json``, ``odvg.json`` with ``label_map.json``, and with ``draw`` the drawings in ``vis`` and
    the page ``index.html``. COCO annotations have ``score`` and, of detectors of masks, ``segmentation``. Names of
    pictures are relative to ``folder``. Pictures that cannot be read are left out and told.

    Args:
        texts: What to look for, for detectors that read: ``'cat . dog .'``.
        custom_entities: ``texts`` are names between full stops, not a sentence.
        score_thr: Detections with higher scores become labels.
        class_thresholds: Other thresholds by name of the class, or a JSON file of them such as the COCO metric writes.
        nms_thr: Of two boxes of a class that overlap more, the surest stays; None keeps all.
    """
    pictures = find_pictures(folder)
    require_texts(inferencer.model, texts)
    names = _names(inferencer, texts, custom_entities)
    if texts:  # before any picture could be blamed
        inferencer.model.get_tokens_positive_and_prompts(texts, custom_entities)
    labels = Labels(list(names))
    metric = DumpODVGResults(
        str(Path(out_dir) / ODVG), str(folder), _thresholds(score_thr, class_thresholds, names), nms_thr=nms_thr
    )
    metric.dataset_meta = dict(classes=tuple(names)) if names else None
    prompts = dict(texts=texts, custom_entities=custom_entities) if texts else {}
    drawer = _Drawer(inferencer, Path(out_dir), folder) if draw else None
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    for chunk in with_progress(chunks, len(chunks)) if inferencer.show_progress else chunks:
        for path, sample in _detected(inferencer, chunk, prompts, batch_size, labels):
            kept = _take(labels, metric, path, sample)
            if drawer is not None:
                labels.drawings.append(drawer(path, kept))
    if not labels.images:
        raise UserValueError(f'no picture of {str(folder)!r} can be read: {next(iter(labels.skipped.values()))}')
    _write(labels, Path(out_dir), metric.score_thr, page=draw)
    return labels


def _names(inferencer: DetInferencer, texts: str | None, custom_entities: bool) -> list[str]:
    """What is looked for, as the model will call it."""
    if not texts:
        return [str(name) for name in inferencer.model.dataset_meta.get('classes') or ()]
    return list(dict.fromkeys(clean_names(texts) if custom_entities else prompt_of_sentence(texts).names))


def _thresholds(score_thr: float, by_class: Mapping[str, float] | str | None, names: list[str]) -> Any:
    """A number, or one by name for all ``names``."""
    if by_class is None:
        return score_thr
    found = resolve_score_thresholds(by_class, names, default=score_thr)
    return dict(zip(names, torch.as_tensor(found).expand(len(names)).tolist(), strict=True))


def _detected(
    inferencer: DetInferencer, chunk: list[Path], prompts: dict, batch_size: int, labels: Labels
) -> Iterator[tuple[Path, DetDataSample]]:
    """Pictures with their predictions; one that cannot be read goes to ``skipped``."""
    shown, inferencer.show_progress = inferencer.show_progress, False
    try:
        try:
            yield from zip(chunk, _run(inferencer, chunk, prompts, batch_size), strict=True)
        except (UserFileError, OSError, ValueError) as error:
            if len(chunk) == 1:
                labels.skipped[str(chunk[0])] = ' '.join(str(error).split())
                return
            for path in chunk:
                yield from _detected(inferencer, [path], prompts, 1, labels)
    finally:
        inferencer.show_progress = shown


def _run(inferencer: DetInferencer, chunk: list[Path], prompts: dict, batch_size: int) -> list[DetDataSample]:
    paths = [str(path) for path in chunk]
    return inferencer(paths, batch_size=batch_size, return_datasamples=True, **prompts)['predictions']


def _take(labels: Labels, metric: DumpODVGResults, path: Path, sample: DetDataSample) -> DetDataSample:
    """Add the labels of a picture; returns what is to be drawn of it."""
    sample = sample.cpu()
    told = {**sample.to_dict(), 'img_path': str(path)}
    told.pop('tokens_positive', None)
    if not isinstance(told.get('text'), str):
        told.pop('text', None)
    record = metric.line(told)
    kept, names = metric.selected(told)
    found: Any = sample.pred_instances[kept]
    found.labels = torch.tensor([labels.label_of(name) for name in names], dtype=torch.long)
    for entry, label in zip(record['detection']['instances'], found.labels.tolist(), strict=True):
        entry['label'] = label
    labels.lines.append(record)
    image = dict(
        id=len(labels.images) + 1, file_name=record['filename'], height=record['height'], width=record['width']
    )
    labels.images.append(image)
    masks = _masks(found)
    for number, entry in enumerate(record['detection']['instances']):
        x1, y1, x2, y2 = entry['bbox']
        annotation = dict(
            id=len(labels.annotations) + 1,
            image_id=image['id'],
            category_id=entry['label'] + 1,
            bbox=[x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            area=round((x2 - x1) * (y2 - y1), 2),
            iscrowd=0,
            score=entry['score'],
        )
        if masks:
            annotation.update(masks[number])
        labels.annotations.append(annotation)
    drawn = InstanceData(**{key: value for key, value in found.items() if key != 'label_names'})
    drawn.label_names = names
    return DetDataSample(pred_instances=drawn)


def _masks(found: Any) -> list[dict]:
    """``segmentation`` and ``area`` of each mask."""
    if 'masks' not in found:
        return []
    from pycocotools import mask as coco_mask

    from mmdet.evaluation.metrics.samples import encode_masks

    codes = encode_masks(found.masks)
    areas = [float(coco_mask.area(code)) for code in codes]
    plain = [dict(code, counts=code['counts'].decode()) for code in codes]
    return [dict(segmentation=code, area=area) for code, area in zip(plain, areas, strict=True)]


class _Drawer:
    def __init__(self, inferencer: DetInferencer, out_dir: Path, folder: str | Path) -> None:
        self.inferencer, self.out_dir, self.names = inferencer, out_dir, OutputNames(folder)

    def __call__(self, path: Path, sample: DetDataSample) -> str:
        name = os.path.join('vis', self.names(path))
        image = self.inferencer._read_for_drawing(str(path))
        drawn = self.inferencer.visualizer.draw_datasample(image, sample, draw_gt=False, pred_score_thr=0.0)
        write_image(drawn, self.out_dir / name)
        return name.replace(os.sep, '/')


def _write(labels: Labels, out_dir: Path, thresholds: Any, page: bool) -> None:
    write_lines(str(out_dir / ODVG), labels.lines)
    write_label_map(out_dir / LABEL_MAP, labels.names)
    categories = [dict(id=number, name=name) for number, name in enumerate(labels.names, start=1)]
    write_json(out_dir / COCO, dict(images=labels.images, annotations=labels.annotations, categories=categories))
    if page:
        (out_dir / PAGE).write_text(page_of(labels, thresholds), encoding='utf-8')


_STYLE = """body{font:14px sans-serif;margin:1.5em;color:#222}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid #ccc;padding:.2em .7em;text-align:left}td.n{text-align:right}
figure{display:inline-block;margin:.4em;width:330px;vertical-align:top}figure img{width:100%}
figcaption{color:#555;overflow-wrap:anywhere}"""
_SCRIPT = """const pick=document.getElementById('pick');pick.onchange=()=>{for(const each of
document.querySelectorAll('figure'))each.hidden=!!pick.value&&!each.dataset.labels.split(' ').includes(pick.value)};"""


def page_of(labels: Labels, thresholds: Any) -> str:
    """HTML: the classes with their thresholds and numbers of boxes, and the drawings, by class if one likes."""
    counts = labels.counts()
    limit = lambda name: thresholds.get(name, 0.3) if isinstance(thresholds, Mapping) else thresholds
    rows = ''.join(
        f'<tr><td>{html.escape(name)}<td class=n>{limit(name):.3g}<td class=n>{counts[name]}</tr>'
        for name in labels.names
    )
    options = ''.join(
        f'<option value="{label}">{html.escape(name)} ({counts[name]})</option>'
        for label, name in enumerate(labels.names)
        if counts[name]
    )
    figures = []
    for line, drawing in zip(labels.lines, labels.drawings, strict=True):
        instances = line['detection']['instances']
        own = ' '.join(str(label) for label in sorted({entry['label'] for entry in instances}))
        place, name = html.escape(drawing, quote=True), html.escape(line['filename'])
        figures.append(
            f'<figure data-labels="{own}"><a href="{place}"><img loading=lazy src="{place}"></a>'
            f'<figcaption>{name}: {len(instances)}</figcaption></figure>'
        )
    skipped = ''.join(f'<li>{html.escape(path)}: {html.escape(why)}' for path, why in labels.skipped.items())
    left_out = f'<h2>Left out</h2><ul>{skipped}</ul>' if skipped else ''
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><title>Labels</title><style>{_STYLE}</style>'
        f'<h1>{len(labels.images)} pictures, {len(labels.annotations)} boxes</h1>'
        f'<table><tr><th>class<th>score above<th>boxes</tr>{rows}</table>{left_out}'
        f'<p><label>Show <select id=pick><option value="">all</option>{options}</select></label></p>'
        f'{"".join(figures)}<script>{_SCRIPT}</script></html>\n'
    )
