"""What detectors that read have in common: prompts in, labels with names out.

Letters: B images, G ground truths, T tokens that a text may have.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core.token_maps import positive_map, tokens_in_spans
from mmdet.structures import SampleList
from mmdet.utils.prompts import (
    SEPARATOR,
    chunks,
    clean_names,
    ended,
    prompt_of_names,
    prompt_of_sentence,
    prompt_of_spans,
)

TokenMaps = dict[int, list[int]]


class ReadsPrompts:
    """Mixin of detectors with a ``language_model``.

    A sample's ``text`` is a list of class names, or a sentence: its noun phrases are looked for, or with
    ``custom_entities`` what stands between its full stops, or what lies at its ``tokens_positive``, a list of ``[start,
    end]`` in letters for each name, or, where that is -1, what the sentence says as a whole. ``caption_prompt`` words
    names otherwise, see :func:`prompt_of_names`. With ``test_cfg.chunked_size`` so many names are read at a time.
    """

    _special_tokens = SEPARATOR
    caption_ends = True
    """Whether a full stop follows the last name, too."""

    needs_besides = 'texts'
    language_model: Any
    test_cfg: Any

    @property
    def max_text_tokens(self) -> int:
        """T, beyond which nothing is read."""
        return 256

    # ------------------------------------------------------------------------------ prompts, by the names of 3.x

    def to_enhance_text_prompts(
        self, original_caption: Sequence[str], enhanced_text_prompts: Mapping[str, Mapping[str, str]]
    ) -> tuple[str, list]:
        """A caption of names, some of which are worded otherwise, and the places of the names in it."""
        return prompt_of_names(original_caption, enhanced_text_prompts, self.caption_ends)[:2]

    def to_plain_text_prompts(self, original_caption: Sequence[str]) -> tuple[str, list]:
        """A caption of names, and their places in it."""
        return prompt_of_names(original_caption, None, self.caption_ends)[:2]

    def get_tokens_and_prompts(
        self,
        original_caption: str | Sequence[str],
        custom_entities: bool = False,
        enhanced_text_prompts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> tuple[Any, str, list, list[str]]:
        """Tokens, caption, places of the names in it, and the names."""
        if isinstance(original_caption, (list, tuple)) or custom_entities:
            names = clean_names(original_caption)
            if custom_entities and enhanced_text_prompts is not None:
                caption, spans = self.to_enhance_text_prompts(names, enhanced_text_prompts)
            else:
                caption, spans = self.to_plain_text_prompts(names)
        else:
            caption, spans, names = prompt_of_sentence(original_caption)
        return self.language_model.tokenize(caption), caption, spans, names

    def get_positive_map(self, tokenized: Any, tokens_positive: Sequence) -> tuple[TokenMaps, Tensor]:
        """The tokens of each name by its number, which counts from 1, and the same as ``(N, T)``, which sums to 1."""
        offsets = tokenized.encodings[0].offsets
        tokens = [[t for t in tokens_in_spans(offsets, s) if t < self.max_text_tokens] for s in tokens_positive]
        return dict(enumerate(tokens, 1)), positive_map(tokens, self.max_text_tokens)

    def get_tokens_positive_and_prompts(
        self,
        original_caption: str | Sequence[str],
        custom_entities: bool = False,
        enhanced_text_prompt: Mapping[str, Mapping[str, str]] | None = None,
        tokens_positive: list | int | None = None,
    ) -> tuple[Any, Any, Any, Any]:
        """Tokens of each name, caption, the same tokens as a matrix, and names; lists of these by chunk where the names
        are read in chunks. What is looked for as a whole has no tokens of its own, and the sentence is its name."""
        if tokens_positive is not None:
            if tokens_positive == -1:
                return None, ended(original_caption), None, original_caption  # type: ignore[arg-type]
            caption, spans, names = prompt_of_spans(original_caption, tokens_positive)  # type: ignore[arg-type]
            return self._mapped(self.language_model.tokenize(caption), caption, spans, names)
        if not self.training and (self.test_cfg or {}).get('chunked_size', -1) > 0:  # type: ignore[attr-defined]
            if not (custom_entities or isinstance(original_caption, (list, tuple))):
                raise UserValueError(
                    f'chunked_size={self.test_cfg.chunked_size} needs names: a list of them, or a text with '
                    f'custom_entities=True, got {original_caption!r}'
                )
            return self.get_tokens_positive_and_prompts_chunked(original_caption, enhanced_text_prompt)
        return self._mapped(*self.get_tokens_and_prompts(original_caption, custom_entities, enhanced_text_prompt))

    def get_tokens_positive_and_prompts_chunked(
        self,
        original_caption: str | Sequence[str],
        enhanced_text_prompts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> tuple[list, list, list, list]:
        """As :meth:`get_tokens_positive_and_prompts`, by chunk."""
        each = chunks(clean_names(original_caption), self.test_cfg.chunked_size)
        parts = [self._mapped(*self.get_tokens_and_prompts(chunk, True, enhanced_text_prompts)) for chunk in each]
        return tuple(map(list, zip(*parts)))  # type: ignore[return-value]

    def _mapped(self, tokenized: Any, caption: str, spans: Sequence, names: list[str]) -> tuple:
        self._check_length(tokenized, spans, names)
        maps, matrix = self.get_positive_map(tokenized, spans)
        return maps, caption, matrix, names

    def _check_length(self, tokenized: Any, spans: Sequence, names: Sequence[str]) -> None:
        """
        Raises:
            ValueError: if a name has no token, or one that is not read.
        """
        offsets = tokenized.encodings[0].offsets
        limit = min(self.language_model.max_tokens, self.max_text_tokens) - 1  # the last one ends the text
        found = [tokens_in_spans(offsets, own) for own in spans]
        for index, (tokens, name) in enumerate(zip(found, names)):
            if not tokens:
                raise UserValueError(f'the language model has no token for class {index} of the text, {name!r}')
            if tokens[-1] >= limit:
                total = sum(start < end for start, end in offsets) + 2
                raise UserValueError(
                    f'the text of {len(names)} names has {total} tokens, and only {limit + 1} are read: class {index}, '
                    f'{name!r}, is beyond. Read fewer at a time, with test_cfg.chunked_size={max(index // 2, 1)} say'
                )

    # --------------------------------------------------------------------------------------------- training

    def _set_positive_maps(self, samples: SampleList, device: torch.device) -> list[str]:
        """Captions of a batch; each ground truth learns the tokens of its label, ``positive_maps (g, T)``.

        The host does not wait for labels on a GPU. One that the text does not have is an error on a CPU; elsewhere its
        map is not a number, and so is the loss.
        """
        known: dict[Any, tuple[str, Tensor]] = {}
        captions, tables = [], []
        for sample in samples:
            spans = sample.get('tokens_positive')
            if spans is None:
                text = sample.text if isinstance(sample.text, str) else tuple(sample.text)
                if text not in known:
                    tokenized, caption, spans, names = self.get_tokens_and_prompts(sample.text, True)
                    self._check_length(tokenized, spans, names)
                    known[text] = caption, self._map_by_label(tokenized, dict(enumerate(spans)), sample)
                caption, table = known[text]
            else:
                caption = sample.text
                table = self._map_by_label(self.language_model.tokenize(caption), spans, sample)
            self._check_labels(sample, table)
            tables.append(table)
            captions.append(caption)
        each = torch.cat(tables).to(device, non_blocking=True).split([len(table) for table in tables])
        for sample, table in zip(samples, each):
            labels, last = sample.gt_instances.labels, len(table) - 1
            known_labels = torch.where((labels >= 0) & (labels < last), labels, last)
            sample.gt_instances.positive_maps = table.index_select(0, known_labels)
        return captions

    def _map_by_label(self, tokenized: Any, places: Mapping[int, Any], sample: Any) -> Tensor:
        """``(N + 1, T)`` ones at the tokens of each label, N - 1 the highest of them; nan where there is none.

        Raises:
            ValueError: if a label has no token.
        """
        table = torch.full((max(places, default=-1) + 2, self.max_text_tokens), torch.nan, dtype=torch.float32)
        tokens, maps = self.get_positive_map(tokenized, list(places.values()))
        for label, own in zip(places, tokens.values()):
            if not own:
                raise UserValueError(
                    f'the language model reads no token of label {label} of {_name_of(sample)}: it lies at '
                    f'{places[label]} in the text {sample.text!r}'
                )
        table[list(places)] = (maps > 0).float()
        return table

    def _check_labels(self, sample: Any, table: Tensor) -> None:
        """
        Raises:
            ValueError: if a label that is on the CPU has no place in the text.
        """
        if sample.gt_instances.labels.device.type != 'cpu':
            return
        known = ~table[:, 0].isnan()
        for label in sample.gt_instances.labels.tolist():
            if not (0 <= label < len(known) and known[label]):
                raise UserValueError(
                    f'the label {label} of {_name_of(sample)} is none of the {int(known.sum())} in its text'
                )

    # -------------------------------------------------------------------------------------------- inference

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections, whose ``label_names`` say in words what their ``labels`` are."""
        prompts = self._prompts_of(batch_data_samples)
        features = self._visual_features(batch_inputs)
        if any(isinstance(caption, list) for _, caption, _, _ in prompts):
            images = enumerate(zip(prompts, batch_data_samples))
            results = [
                self._predict_in_chunks([level[i : i + 1] for level in features], *pair, rescale) for i, pair in images
            ]
        else:
            for sample, (maps, *_) in zip(batch_data_samples, prompts):
                sample.set_metainfo(dict(token_positive_map=maps))
            captions = [caption for _, caption, _, _ in prompts]
            results = self._predict_texts(features, captions, batch_data_samples, rescale)
        _set_names(results, prompts)
        return self.add_pred_to_datasample(batch_data_samples, results)  # type: ignore[attr-defined]

    def _visual_features(self, batch_inputs: Tensor) -> Any:
        return self.extract_feat(batch_inputs)  # type: ignore[attr-defined]

    def _predict_texts(self, features: Any, captions: list[str], samples: SampleList, rescale: bool) -> list:
        """Detections of each image by what its caption says."""
        raise NotImplementedError

    def _prompts_of(self, samples: SampleList) -> list[tuple]:
        """Of each sample what :meth:`get_tokens_positive_and_prompts` gives, made once for equal ones."""
        made: list[tuple] = []
        found = []
        for sample in samples:
            if 'text' not in sample:
                raise UserValueError(
                    f"{type(self).__name__} is told what to look for, but the picture has no 'text': give texts, or "
                    "let the test pipeline pack it, meta_keys=(..., 'text', 'custom_entities')"
                )
            asked = (
                sample.text,
                sample.get('custom_entities', False),
                sample.get('caption_prompt'),
                sample.get('tokens_positive'),
            )
            answer = next((answer for other, answer in made if other == asked), None)
            if answer is None:
                answer = self.get_tokens_positive_and_prompts(*asked)
                made.append((asked, answer))
            found.append(answer)
        return found

    def _predict_in_chunks(self, features: Any, prompt: tuple, sample: Any, rescale: bool) -> InstanceData:
        """Detections of one image, chunk by chunk of the names."""
        parts, first = [], 0
        for maps, caption in zip(*prompt[:2]):
            sample.set_metainfo(dict(token_positive_map=maps))
            (found,) = self._predict_texts(features, [caption], [sample], rescale)
            found.labels = found.labels + first
            first += len(maps)
            parts.append(found)
        return InstanceData.cat(parts)


def _name_of(sample: Any) -> str:
    return sample.get('img_path') or 'a picture'


def _set_names(results: Sequence[InstanceData], prompts: Sequence[tuple]) -> None:
    """Give detections ``label_names``; the host waits once, for the labels of all images."""
    labels = iter(torch.cat([found.labels for found in results]).tolist())
    for found, (maps, _, _, names) in zip(results, prompts):
        own = list(itertools.islice(labels, len(found)))
        if isinstance(maps, list):  # in chunks
            names = [name for chunk in names for name in chunk]
        found.label_names = [names] * len(own) if maps is None else [names[label] for label in own]
