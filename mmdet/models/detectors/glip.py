"""GLIP. Letters: B images, T tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .prompted import (
    ReadsPrompts,
    chunks,
    clean_label_name,
    create_positive_map,
    create_positive_map_label_to_token,
    find_noun_phrases,
    remove_punctuation,
    run_ner,
)
from .single_stage import SingleStageDetector

__all__ = [
    'GLIP',
    'chunks',
    'clean_label_name',
    'create_positive_map',
    'create_positive_map_label_to_token',
    'find_noun_phrases',
    'remove_punctuation',
    'run_ner',
]


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
