"""GLIP. Letters: B images, T tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core.token_maps import positive_map, tokens_in_spans
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmdet.utils.prompts import chunks, clean_label_name, noun_phrases, prompt_of_sentence

from .prompted import ReadsPrompts
from .single_stage import SingleStageDetector

__all__ = ['GLIP', 'chunks', 'clean_label_name', 'create_positive_map', 'find_noun_phrases', 'run_ner']


@MODELS.register_module()
class GLIP(ReadsPrompts, SingleStageDetector):
    """`Grounded Language-Image Pre-training <https://arxiv.org/abs/2112.03857>`_

    Args:
        language_model: Config of a :class:`BertModel`.
    """

    caption_ends = False

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        language_model: ConfigType,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg)
        self.language_model = MODELS.build(language_model)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        text = self.language_model(self._set_positive_maps(batch_data_samples, batch_inputs.device))
        return self.bbox_head.loss(self.extract_feat(batch_inputs), text, batch_data_samples)

    def _predict_texts(self, features: Any, captions: list[str], samples: SampleList, rescale: bool) -> list:
        return self.bbox_head.predict(features, self.language_model(captions), samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple[list[Tensor], ...]:
        """Outputs of the head for what samples ask for."""
        if not batch_data_samples:
            raise UserValueError('GLIP needs samples whose text says what to look for')
        captions = [caption for _, caption, _, _ in self._prompts_of(batch_data_samples)]
        return self.bbox_head.forward(self.extract_feat(batch_inputs), self.language_model(captions))


def find_noun_phrases(caption: str) -> list[str]:
    """The noun phrases of a sentence, in small letters."""
    return [caption[start:end].lower() for start, end in noun_phrases(caption)]


def remove_punctuation(text: str) -> str:
    """A text without signs other than letters, digits and spaces."""
    return ''.join(letter for letter in text if letter.isalnum() or letter.isspace()).strip()


def run_ner(caption: str) -> tuple[list, list[str]]:
    """Places of the noun phrases of a sentence, and the phrases."""
    return prompt_of_sentence(caption)[1:]


def create_positive_map(tokenized: Any, tokens_positive: Sequence, max_num_entities: int = 256) -> Tensor:
    """``(N, max_num_entities)`` equal parts of one at the tokens of each name, of its places in letters."""
    offsets = tokenized.encodings[0].offsets
    return positive_map([tokens_in_spans(offsets, spans) for spans in tokens_positive], max_num_entities)


def create_positive_map_label_to_token(positive_map: Tensor, plus: int = 0) -> dict[int, list[int]]:
    """The tokens of each row of a map, whose numbers begin with ``plus``."""
    return {index: row.nonzero().flatten().tolist() for index, row in enumerate(positive_map, plus)}
