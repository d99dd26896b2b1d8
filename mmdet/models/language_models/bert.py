"""BERT (arXiv:1810.04805), by `transformers`, as the reader of prompts.

Letters: B texts, T tokens, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import constant
from mmdet.registry import MODELS
from mmdet.utils.tokenizers import load_bert, load_bert_config, load_tokenizer


def generate_masks_with_special_tokens_and_transfer_map(
    tokenized: Mapping[str, Tensor], special_tokens_list: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Which tokens see each other where names must not: those between two special tokens, and the second of these
    (Grounding DINO, arXiv:2303.05499, Sec. 3.4).

    Args:
        tokenized: Has the ``input_ids (B, T)``.
        special_tokens_list: Ids of the tokens that part names.

    Returns:
        ``(B, T, T)`` bool, and ``(B, T)`` the place of each token within its name. All others see themselves
        alone and have place 0: those after the last special token, special ones at the first or the last place, and,
        in the latter case, those that it ends.
    """
    ids = tokenized['input_ids']
    size = ids.shape[1]
    special = torch.isin(ids, constant(list(special_tokens_list), like=ids))
    index = torch.arange(size, device=ids.device).expand_as(ids)
    ends = torch.where(special, index, size).flip(1).cummin(1).values.flip(1)
    before = torch.where(special, index, -1).cummax(1).values.roll(1, 1)
    before = torch.where(index == 0, -1, before)
    within = (ends > 0) & (ends < size - 1)
    together = (ends[:, :, None] == ends[:, None]) & within[:, None]
    return together | torch.eye(size, dtype=torch.bool, device=ids.device), torch.where(within, index - before - 1, 0)


def _drop_as_told(attention: nn.Module, inputs: tuple) -> None:
    """Let an attention, which drops weights by the rate of its dropout, do so only where that module itself would."""
    attention.training = attention.dropout.training


class BertEncoder(nn.Module):
    """The network without the words.

    Args:
        name: As in :class:`BertModel`.
        num_layers_of_embedded: The mean of so many last layers is the embedding.
        use_checkpoint: Whether activations are computed again in the backward pass.
    """

    def __init__(
        self, name: str, add_pooling_layer: bool = False, num_layers_of_embedded: int = 1, use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        options = dict(add_pooling_layer=add_pooling_layer, config=load_bert_config(name))
        self.model = load_bert(name, **options).float()
        if use_checkpoint:
            self.model.gradient_checkpointing_enable(dict(use_reentrant=False))
        for layer in self.model.encoder.layer:
            layer.attention.self.register_forward_pre_hook(_drop_as_told)
        self.language_dim = options['config'].hidden_size
        self.num_layers_of_embedded = num_layers_of_embedded

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.pop(f'{prefix}model.embeddings.position_ids', None)  # numbers that older versions kept
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Features of tokens.

        Args:
            x: ``input_ids (B, T)``, ``attention_mask``, ``(B, T)`` or ``(B, T, T)`` where tokens do not see all others,
                and ``position_ids`` and ``token_type_ids``, which may be None.

        Returns:
            ``embedded (B, T, C)``, ``hidden (B, T, C)`` of the last layer, and ``masks``, the attention mask.
        """
        mask = x['attention_mask']
        assert mask is not None
        seen = mask
        if mask.dim() == 3:
            dtype = next(self.model.parameters()).dtype
            apart = ~mask[:, None].bool()
            seen = torch.zeros_like(apart, dtype=dtype).masked_fill(apart, torch.finfo(dtype).min)
        outputs = self.model(
            input_ids=x['input_ids'],
            attention_mask=seen,
            position_ids=x['position_ids'],
            token_type_ids=x['token_type_ids'],
            output_hidden_states=True,
        )
        layers = outputs.hidden_states[1:]
        features = torch.stack(layers[-self.num_layers_of_embedded :], 1).mean(1) / self.num_layers_of_embedded
        embedded = features * mask.unsqueeze(-1).float() if mask.dim() == 2 else features
        return dict(embedded=embedded, masks=mask, hidden=layers[-1])


@MODELS.register_module()
class BertModel(BaseModel):
    """Words, and what they mean where they stand.

    Args:
        name: Of a model on the Hugging Face hub that its cache holds, or a folder with ``config.json``, ``vocab.txt``
            or ``tokenizer.json``, and ``model.safetensors``.
        max_tokens: Longer texts are cut.
        pad_to_max: Whether all texts are padded to ``max_tokens``; otherwise to the longest of the batch.
        use_sub_sentence_represent: Whether names do not see each other, see
            :func:`generate_masks_with_special_tokens_and_transfer_map`.
        special_tokens_list: Words that part names, for that.
        num_layers_of_embedded: The mean of so many last layers is the embedding.
        use_checkpoint: Whether activations are computed again in the backward pass.
    """

    def __init__(
        self,
        name: str = 'bert-base-uncased',
        max_tokens: int = 256,
        pad_to_max: bool = True,
        use_sub_sentence_represent: bool = False,
        special_tokens_list: Sequence[str] | None = None,
        add_pooling_layer: bool = False,
        num_layers_of_embedded: int = 1,
        use_checkpoint: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_tokens = max_tokens
        self.pad_to_max = pad_to_max
        self.use_sub_sentence_represent = use_sub_sentence_represent
        if use_sub_sentence_represent and not special_tokens_list:
            raise UserValueError('use_sub_sentence_represent=True needs special_tokens_list, the words that part names')
        self.tokenizer = load_tokenizer(name)
        encoder = BertEncoder(name, add_pooling_layer, num_layers_of_embedded, use_checkpoint)
        self.language_backbone = nn.Sequential(OrderedDict(body=encoder))
        if special_tokens_list:
            self.special_tokens = self.tokenizer.convert_tokens_to_ids(list(special_tokens_list))

    def tokenize(self, caption: str) -> Any:
        """The tokens of one text, which is not cut."""
        return self.tokenizer([caption], padding='max_length' if self.pad_to_max else 'longest', return_tensors='pt')

    def forward(self, captions: Sequence[str], **kwargs: Any) -> dict[str, Tensor]:
        """Features of texts: what :class:`BertEncoder` gives and, where names do not see each other, ``position_ids (B,
        T)`` within each and ``text_token_mask (B, T)``, False at padding."""
        captions = list(captions)
        if not self.training and len(captions) > 1 and len(set(captions)) == 1:  # read it once
            once = self.forward(captions[:1])
            return {name: value.expand(len(captions), *value.shape[1:]) for name, value in once.items()}
        device = next(self.language_backbone.parameters()).device
        tokenized = self.tokenizer(
            captions,
            max_length=self.max_tokens,
            padding='max_length' if self.pad_to_max else 'longest',
            truncation=True,
            return_tensors='pt',
        )
        tokenized = {key: value.to(device, non_blocking=True) for key, value in tokenized.items()}
        inputs = dict(input_ids=tokenized['input_ids'], attention_mask=tokenized['attention_mask'])
        if not self.use_sub_sentence_represent:
            return self.language_backbone(dict(inputs, position_ids=None, token_type_ids=None))
        mask, places = generate_masks_with_special_tokens_and_transfer_map(tokenized, self.special_tokens)
        types = tokenized['token_type_ids']
        features = self.language_backbone(dict(inputs, attention_mask=mask, position_ids=places, token_type_ids=types))
        return dict(features, position_ids=places, text_token_mask=tokenized['attention_mask'].bool())
