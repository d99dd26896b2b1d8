"""Texts for detectors that read: prompts of classes with negatives for training, lists of names for testing."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.datasets.reading.odvg_file import read_label_map
from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.utils.tokenizers import load_tokenizer

from .fields import select_instances

END = '. '
"""Between the names of a prompt."""


def clean_name(name: str) -> str:
    """A class name as a prompt has it: without what stands in brackets, without underscores, in lower case."""
    return re.sub(r'  ', ' ', re.sub(r'_', ' ', re.sub(r'\(.*\)', '', name))).lower()


def fitting(labels: Iterable[Any], text: Mapping[str, str], tokenizer: Any, max_tokens: int) -> tuple[list, int]:
    """The first of ``labels`` whose names together have no more than ``max_tokens`` tokens.

    Returns:
        They, and how many tokens all had that were looked at, the first that does not fit included.
    """
    kept: list = []
    length = 0
    for label in labels:
        length += _length(tokenizer, clean_name(text[str(label)]) + END)
        if length > max_tokens:
            break
        kept.append(label)
    return kept, length


@functools.lru_cache(1 << 16)
def _length(tokenizer: Any, text: str) -> int:
    return len(tokenizer.tokenize(text))


def check_for_positive_overflow(gt_bboxes, gt_labels, text: Mapping[str, str], tokenizer: Any, max_tokens: int):
    """Leave out classes by chance until the names of the others fit.

    Returns:
        Boxes, labels, and the length of :func:`fitting`.
    """
    labels = np.unique(gt_labels).tolist()
    random.shuffle(labels)
    kept, length = fitting(labels, text, tokenizer, max_tokens)
    index = np.flatnonzero(np.isin(gt_labels, kept))
    return gt_bboxes[index], np.asarray(gt_labels)[index], length


def generate_senetence_given_labels(
    positive_label_list: Sequence[Any], negative_label_list: Sequence[Any], text: Mapping[str, str]
) -> tuple[dict[int, list[list[int]]], str, dict[int, int]]:
    """A prompt of names in random order, each followed by ``'. '``.

    Returns:
        The spans of letters of the positive names by their place in the prompt, the prompt, and the place of each
        positive label.
    """
    labels = [*negative_label_list, *positive_label_list]
    random.shuffle(labels)
    positives = {int(label) for label in positive_label_list}
    spans, places, prompt = {}, {}, ''
    for place, label in enumerate(labels):
        start = len(prompt)
        prompt += clean_name(text[str(label)])
        if int(label) in positives:
            spans[place] = [[start, len(prompt)]]
            places[int(label)] = place
        prompt += END
    return spans, prompt, places


@TRANSFORMS.register_module()
class RandomSamplingNegPos(BaseTransform):
    """Prompts to train with (arXiv:2401.02361, Sec. 3.2): of detection data the names of the classes in the picture and
    of some that are not, of grounding data the caption.

    ``text`` becomes the prompt, ``gt_bboxes_labels`` the places of the names in it (of grounding data the numbers of
    the phrases), and ``tokens_positive`` the spans of letters by label. Names that do not fit are left out, with their
    boxes, and so are phrases that the language model does not read.

    Args:
        tokenizer_name: Folder, or name of a model of the Hugging Face hub that is in the cache; read at the first use.
        num_sample_negative: Absent classes to draw at most.
        max_tokens: Tokens of a prompt at most.
        full_sampling_prob: Probability to draw as many as that; else their number is random.
        label_map_file: Names by label, for data sets with ``need_text=False``.
    """

    def __init__(
        self,
        tokenizer_name: str,
        num_sample_negative: int = 85,
        max_tokens: int = 256,
        full_sampling_prob: float = 0.5,
        label_map_file: str | None = None,
    ) -> None:
        if not 0 <= full_sampling_prob <= 1:
            raise UserValueError(f'full_sampling_prob must be from 0 to 1, not {full_sampling_prob}')
        self.tokenizer_name = tokenizer_name
        self.num_sample_negative = num_sample_negative
        self.max_tokens = max_tokens
        self.full_sampling_prob = full_sampling_prob
        self.label_map_file = label_map_file

    @functools.cached_property
    def tokenizer(self) -> Any:
        """Of :attr:`tokenizer_name`."""
        return load_tokenizer(self.tokenizer_name)

    @functools.cached_property
    def label_map(self) -> dict[str, str] | None:
        """Of :attr:`label_map_file`."""
        return None if self.label_map_file is None else read_label_map(self.label_map_file)

    def transform(self, results: dict) -> dict:
        return self.vg_aug(results) if 'phrases' in results else self.od_aug(results)

    def vg_aug(self, results: dict) -> dict:
        """The caption as the prompt, in lower case and ended by a full stop."""
        caption = ''.join(low if len(low := letter.lower()) == 1 else letter for letter in results['text']).rstrip()
        results['text'] = caption if caption.endswith('.') else caption + END
        found = np.unique(results['gt_bboxes_labels']).tolist()
        spans = {label: results['phrases'][label]['tokens_positive'] for label in found}
        results['tokens_positive'] = self._read(results['text'], spans)
        if len(results['tokens_positive']) < len(found):
            select_instances(results, np.isin(results['gt_bboxes_labels'], list(results['tokens_positive'])))
        return results

    def _read(self, caption: str, spans: dict[int, list]) -> dict[int, list]:
        """Those of the phrases that have a token among the first ``max_tokens``, of which the last ends the text."""
        offsets = self.tokenizer(caption, return_offsets_mapping=True)['offset_mapping'][: self.max_tokens - 1]
        return {
            label: own
            for label, own in spans.items()
            if any(first < stop and start < end for start, stop in offsets for first, end in own if start < stop)
        }

    def od_aug(self, results: dict) -> dict:
        """A prompt of the classes that are there and of some that are not."""
        names = _OneOf(results.get('text', self.label_map))
        labels = results['gt_bboxes_labels']
        there = np.unique(labels).tolist()
        random.shuffle(there)
        positives, length = fitting(there, names, self.tokenizer, self.max_tokens)
        if len(positives) < len(there):
            select_instances(results, np.isin(labels, positives))
        negatives = [label for label in self._drawn(list(names)) if int(label) not in there]
        random.shuffle(negatives)
        negatives, _ = fitting(negatives, names, self.tokenizer, self.max_tokens - length - 1)
        spans, results['text'], places = generate_senetence_given_labels(positives, negatives, names)
        results['tokens_positive'] = spans
        moved = [places[label] for label in results['gt_bboxes_labels'].tolist()]
        results['gt_bboxes_labels'] = np.array(moved, dtype=np.int64)
        return results

    def _drawn(self, labels: list[str]) -> list[str]:
        most = min(self.num_sample_negative, len(labels))
        count = most if random.random() < self.full_sampling_prob else np.random.choice(max(1, most)) + 1
        return np.random.choice(labels, size=min(count, len(labels)), replace=False).tolist()

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(tokenizer_name={self.tokenizer_name!r}, '
            f'num_sample_negative={self.num_sample_negative}, max_tokens={self.max_tokens}, '
            f'full_sampling_prob={self.full_sampling_prob}, label_map_file={self.label_map_file!r})'
        )


class _OneOf(dict):
    """Names by label; of several that mean the same, as Objects365 writes ``a/b``, one by chance, then always that."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, Mapping):
            raise UserValueError(
                f'RandomSamplingNegPos needs the names of the classes by label, not {text!r}: as text of the data set '
                '(ODVGDataset with need_text=True), or by its own label_map_file'
            )
        super().__init__(text)

    def __getitem__(self, label: str) -> str:
        if label not in self:
            raise UserKeyError(f'label {label} has no name: the label map has {len(self)} classes')
        name = super().__getitem__(label)
        if '/' in name:
            name = self[label] = random.choice(name.split('/')).strip()
        return name


@TRANSFORMS.register_module()
class LoadTextAnnotations(BaseTransform):
    """What an ``ODVGDataset`` says, as detectors take it in testing: names of classes as a list in ``text``, or the
    spans of each phrase of a caption in ``tokens_positive``.
    """

    def transform(self, results: dict) -> dict:
        if 'phrases' in results:
            results['tokens_positive'] = [phrase['tokens_positive'] for phrase in results['phrases'].values()]
        elif isinstance(results.get('text'), Mapping):
            results['text'] = list(results['text'].values())
        else:
            raise UserKeyError(
                'LoadTextAnnotations needs phrases, or text with the names of the classes by label, as ODVGDataset '
                'with need_text=True gives them'
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
