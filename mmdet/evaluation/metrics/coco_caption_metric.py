from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from mmengine.logging import MMLogger

from mmdet.errors import UserFileError, UserImportError, UserKeyError, UserRuntimeError
from mmdet.registry import METRICS

from ..functional.coco_eval import load_coco
from .pictures import PictureMetric, marks_of


def save_result(result: Sequence[dict], result_dir: str, filename: str, remove_duplicate: str = '') -> str:
    """Write results as ``{result_dir}/{filename}.json``; returns the path.

    Args:
        remove_duplicate: Name of an id, of which each comes once.
    """
    if remove_duplicate:
        result = list({entry[remove_duplicate]: entry for entry in reversed(result)}.values())[::-1]
    path = os.path.join(result_dir, f'{filename}.json')
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(list(result), file)
    return path


def coco_caption_eval(results_file: str, ann_file: str) -> dict[str, float]:
    """BLEU, METEOR, ROUGE-L and CIDEr of captions as COCO's server computes them, by ``pycocoevalcap``.

    SPICE is among them where its jar files lie beside that package; nothing is downloaded.

    Args:
        results_file: JSON list of ``image_id`` and ``caption``.
        ann_file: COCO file of captions.

    Raises:
        UserImportError, UserRuntimeError: the package or Java is missing.
    """
    if not os.path.isfile(results_file):
        raise UserFileError(f'there is no file of captions {results_file!r}')
    with open(results_file, encoding='utf-8') as file:
        results = json.load(file)
    return evaluate_captions(results, load_coco(_with_categories(ann_file)).dataset['annotations'])


def _with_categories(ann_file: str) -> dict:
    """The content of a file of captions, in the form of one of boxes."""
    from mmdet.datasets.reading.coco_file import read_json

    content = read_json(ann_file)
    annotations = content.get('annotations')
    if not isinstance(annotations, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get('caption'), str) and 'image_id' in entry
        for entry in annotations
    ):
        raise UserKeyError(f'{ann_file}: a COCO file of captions needs annotations with image_id and caption')
    entries = [dict(entry, category_id=0) for entry in annotations]
    return dict(content, annotations=entries, categories=[dict(id=0, name='caption')])


def evaluate_captions(results: Sequence[dict], annotations: Sequence[dict]) -> dict[str, float]:
    """The numbers of :func:`coco_caption_eval` of entries with ``image_id`` and ``caption``."""
    scorers, tokenize = _scorers()
    found = {entry['image_id']: [dict(caption=entry['caption'])] for entry in results}
    truth: dict[Any, list[dict]] = {own: [] for own in found}
    for entry in annotations:
        if entry['image_id'] in truth:
            truth[entry['image_id']].append(dict(caption=entry['caption']))
    for own, captions in truth.items():
        if not captions:
            raise UserKeyError(f'image {own!r} has a caption to be judged, and the annotation file has none of it')
    found_tokens, true_tokens = tokenize(found), tokenize(truth)
    numbers: dict[str, float] = {}
    for names, scorer in scorers:
        score, _ = scorer.compute_score(true_tokens, found_tokens)
        scores = score if isinstance(score, (list, tuple)) else [score]
        numbers.update(zip(names, map(float, scores), strict=True))
    return numbers


def _scorers() -> tuple[list[tuple[list[str], Any]], Any]:
    try:
        import pycocoevalcap
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError as error:
        raise UserImportError(
            f'COCOCaptionMetric needs the package pycocoevalcap, which cannot be imported ({error}): '
            'pip install pycocoevalcap'
        ) from error
    if shutil.which('java') is None:
        raise UserRuntimeError(
            'COCOCaptionMetric needs Java 8 or later for COCO\'s tokenizer: there is no program "java"'
        )
    scorers: list[tuple[list[str], Any]] = [
        (['Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4'], _Quiet(Bleu(4))),
        (['METEOR'], Meteor()),
        (['ROUGE_L'], Rouge()),
        (['CIDEr'], Cider()),
    ]
    jars = os.path.join(next(iter(pycocoevalcap.__path__)), 'spice', 'lib')
    if os.path.isfile(os.path.join(jars, 'stanford-corenlp-3.6.0.jar')):
        from pycocoevalcap.spice.spice import Spice

        scorers.append((['SPICE'], Spice()))
    return scorers, PTBTokenizer().tokenize


class _Quiet:
    """BLEU that prints nothing."""

    def __init__(self, scorer: Any) -> None:
        self._scorer = scorer

    def compute_score(self, truth: dict, found: dict) -> Any:
        return self._scorer.compute_score(truth, found, verbose=0)


@METRICS.register_module()
class COCOCaptionMetric(PictureMetric):
    """Captions as COCO's server judges them (arXiv:1504.00325): ``Bleu_1`` to ``Bleu_4``, ``METEOR``, ``ROUGE_L``,
    ``CIDEr``; see :func:`coco_caption_eval`.

    A data sample has its caption as ``pred_caption``.

    Args:
        ann_file: COCO file of captions.
    """

    default_prefix: str | None = 'coco_caption'

    def __init__(self, ann_file: str, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.captions_file = self.ann_file = ann_file

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            if 'pred_caption' not in data_sample:
                raise UserKeyError(f'image {data_sample.get("img_id")!r} has no pred_caption: does the model caption?')
            entry = dict(image_id=int(data_sample['img_id']), caption=str(data_sample['pred_caption']))
            self.results.append((marks_of(data_sample), entry))

    def compute_metrics(self, results: list) -> dict[str, float]:
        entries = [entry for _, entry in self.tested(results, [marks for marks, _ in results])]
        with tempfile.TemporaryDirectory() as folder:
            path = save_result(entries, folder, 'captions', remove_duplicate='image_id')
            numbers = coco_caption_eval(path, self.captions_file)
        MMLogger.get_current_instance().info(', '.join(f'{name} {value:.4f}' for name, value in numbers.items()))
        return numbers
