"""Grounding DINO. Letters: B images, S cells of all levels, D denoising queries, Q others, T tokens, C channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.layers.transformer.grounding_dino_layers import (
    GroundingDinoTransformerDecoder,
    GroundingDinoTransformerEncoder,
)
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType
from mmdet.utils.prompts import chunks, clean_label_name

from .dino import DINO
from .prompted import ReadsPrompts

__all__ = ['GroundingDINO', 'chunks', 'clean_label_name']


@MODELS.register_module()
class GroundingDINO(ReadsPrompts, DINO):
    """`Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection
    <https://arxiv.org/abs/2303.05499>`_

    Padding of shorter texts is seen by nothing, and the words of a name see those of their own text alone, so that
    detections do not depend on the company in a batch.

    Args:
        language_model: Config of a :class:`BertModel`.
        use_autocast: Whether features are extracted in half precision where there is CUDA.
    """

    encoder_class = GroundingDinoTransformerEncoder
    decoder_class = GroundingDinoTransformerDecoder

    def __init__(self, language_model: ConfigType, *args: Any, use_autocast: bool = False, **kwargs: Any) -> None:
        self.language_model_cfg = language_model
        self.use_autocast = use_autocast
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        self.language_model = MODELS.build(self.language_model_cfg)
        self.text_feat_map = nn.Linear(self.language_model.language_backbone.body.language_dim, self.embed_dims)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.xavier_uniform_(self.text_feat_map.weight)
        nn.init.zeros_(self.text_feat_map.bias)

    @property
    def max_text_tokens(self) -> int:
        return self.bbox_head.max_text_len

    def _visual_features(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast('cuda', enabled=self.use_autocast and batch_inputs.is_cuda):
            return self.extract_feat(batch_inputs)

    def _read(self, captions: list[str]) -> dict[str, Tensor]:
        """What the language model makes of texts, with ``embedded (B, T, C)``."""
        text = self.language_model(captions)
        return dict(text, embedded=self.text_feat_map(text['embedded']))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        text = self._read(self._set_positive_maps(batch_data_samples, batch_inputs.device))
        for sample, exists in zip(batch_data_samples, text['text_token_mask']):
            truth = sample.gt_instances
            truth.text_token_mask = exists.expand(len(truth.positive_maps), -1)
        outputs = self.forward_transformer(self._visual_features(batch_inputs), text, batch_data_samples)
        return self.bbox_head.loss(**outputs, batch_data_samples=batch_data_samples)

    def _predict_texts(self, features: Any, captions: list[str], samples: SampleList, rescale: bool) -> list:
        outputs = self.forward_transformer(features, self._read(captions), samples)
        return self.bbox_head.predict(**outputs, rescale=rescale, batch_data_samples=samples)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple[Tensor, ...]:
        """Logits ``(L, B, Q, T)`` and boxes of what samples ask for."""
        if not batch_data_samples:
            raise UserValueError(f'{type(self).__name__} needs samples whose text says what to look for')
        captions = [caption for _, caption, _, _ in self._prompts_of(batch_data_samples)]
        text = self._read(captions)
        outputs = self.forward_transformer(self._visual_features(batch_inputs), text, batch_data_samples)
        wanted = 'hidden_states', 'references', 'memory_text', 'text_token_mask'
        return self.bbox_head.forward(**{name: outputs[name] for name in wanted})

    def forward_transformer(  # type: ignore[override]
        self, img_feats: tuple[Tensor, ...], text_dict: dict, batch_data_samples: OptSampleList = None
    ) -> dict:
        """What the head takes, of feature maps ``[(B, C, H, W)]`` and features of texts."""
        encoder_inputs, decoder_inputs = self.pre_transformer(img_feats, batch_data_samples)
        encoder_outputs = self.forward_encoder(**encoder_inputs, text_dict=text_dict)
        queries, head_inputs = self.pre_decoder(**encoder_outputs, batch_data_samples=batch_data_samples)
        decoder_inputs.update(queries)
        return {**head_inputs, **self.forward_decoder(**decoder_inputs)}

    def forward_encoder(  # type: ignore[override]
        self,
        feat: Tensor,
        feat_mask: Tensor | None,
        feat_pos: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
        text_dict: dict,
    ) -> dict:
        exists = text_dict['text_token_mask']
        memory, memory_text = self.encoder(
            query=feat,
            query_pos=feat_pos,
            key_padding_mask=feat_mask,
            spatial_shapes=spatial_shapes,
            level_start_index=level_start_index,
            valid_ratios=valid_ratios,
            memory_text=text_dict['embedded'],
            text_attention_mask=~exists,
            position_ids=text_dict['position_ids'],
            text_self_attention_masks=text_dict['masks'],
        )
        where = dict(memory=memory, memory_mask=feat_mask, spatial_shapes=spatial_shapes)
        return dict(where, memory_text=memory_text, text_token_mask=exists)

    def pre_decoder(  # type: ignore[override]
        self,
        memory: Tensor,
        memory_mask: Tensor | None,
        spatial_shapes: Tensor,
        memory_text: Tensor,
        text_token_mask: Tensor,
        batch_data_samples: OptSampleList = None,
    ) -> tuple[dict, dict]:
        """As DINO's; queries begin at the cells that fit some token best (Sec. 3.2)."""
        features, proposals = self.gen_encoder_output_proposals(memory, memory_mask, spatial_shapes)
        best, scores, boxes = self._best_cells(features, proposals, memory_text, text_token_mask)
        queries, dn_meta = self._with_denoising(self._contents(features, best), boxes.detach(), batch_data_samples)
        text = dict(memory_text=memory_text, text_token_mask=text_token_mask)
        queries.update(memory=memory, memory_text=memory_text, text_attention_mask=~text_token_mask)
        if not self.training:
            return queries, text
        return queries, dict(text, enc_outputs_class=scores, enc_outputs_coord=boxes.sigmoid(), dn_meta=dn_meta)
