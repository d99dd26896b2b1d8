from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from mmdet.errors import UserKeyError
from mmdet.registry import DATASETS

from .captioned import CaptionedDataset
from .reading.odvg_file import check_spans, phrase_of


def convert_phrase_ids(phrase_ids: Sequence[Any]) -> list[int]:
    """Ids of phrases numbered from 0, in the order of the ids."""
    numbers = {own: number for number, own in enumerate(sorted(set(phrase_ids)))}
    return [numbers[own] for own in phrase_ids]


@DATASETS.register_module()
class Flickr30kDataset(CaptionedDataset):
    """Flickr30k Entities (arXiv:1505.04870) as MDETR writes it: a sentence, its phrases, and boxes of each phrase.

    A sample has ``tokens_positive``, spans of letters for each phrase; ``phrases``; and ``phrase_ids``, which say for
    each instance the number of its phrase. An object of several phrases is an instance of each.
    """

    IMAGE_KEYS = ('tokens_positive_eval',)

    def _order(self, ids: list) -> list:
        return sorted(ids, key=lambda own: (isinstance(own, str), own))

    def _sample(self, image: dict, annotations: list[dict]) -> dict:
        where = f'{self.ann_file}: image {image["id"]!r}'
        caption, spans = image['caption'], image['tokens_positive_eval']
        repeated: list[dict] = []
        phrase_ids: list[Any] = []
        for annotation in annotations:
            own = self._phrases_of(annotation, spans)
            repeated += [annotation] * len(own)
            phrase_ids += own
        sample = super()._sample(image, repeated)
        spans = [check_spans(each, caption, where) for each in spans]
        return dict(
            sample,
            phrase_ids=convert_phrase_ids(phrase_ids),
            tokens_positive=spans,
            phrases=[phrase_of(caption, each[:1]) for each in spans],
        )

    def _phrases_of(self, annotation: dict, spans: list) -> list[Hashable]:
        own = annotation.get('phrase_ids')
        if own is not None:
            return list(own) if isinstance(own, list) else [own]
        if annotation.get('tokens_positive') in spans:
            return [spans.index(annotation['tokens_positive'])]
        raise UserKeyError(
            f"{self.ann_file}: annotation {annotation.get('id')!r} has no key 'phrase_ids', nor tokens_positive that "
            'are among tokens_positive_eval of its image'
        )
