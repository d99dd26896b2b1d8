"""Names of the weights of `transformers`' Grounding DINO and MM-Grounding DINO; tables as in :mod:`hub_names`."""

from __future__ import annotations

from .hub_names import HUB_TABLES, Rows

_SWIN, _RESNET = HUB_TABLES['transformers Swin'], HUB_TABLES['transformers ResNet']
_ENCODER, _DECODER = r'model\.encoder\.layers\.(\d+)', r'model\.decoder\.layers\.(\d+)'
_CELLS, _FUSION = rf'{_ENCODER}\.deformable_layer', rf'{_ENCODER}\.fusion_layer'
_WORDS = rf'{_ENCODER}\.text_enhancer_layer'
_POINTS = r'(sampling_offsets|attention_weights|value_proj|output_proj)'


def _attention(layer: str, ours: str) -> Rows:
    """``nn.MultiheadAttention``, whose three projections are apart in theirs."""
    names = enumerate(('query', 'key', 'value'))
    rows = [(rf'{layer}\.{theirs}\.(weight|bias)', rf'{ours}.attn.in_proj_\2@{part}') for part, theirs in names]
    return [*rows, (rf'{layer}\.out_proj\.(.+)', rf'{ours}.attn.out_proj.\2')]


def _block(layer: str, ours: str, norms: tuple[str, ...]) -> Rows:
    rows = [(rf'{layer}\.{theirs}\.(.+)', rf'{ours}.norms.{index}.\2') for index, theirs in enumerate(norms)]
    layers = (('fc1', '0.0'), ('fc2', '1'))
    return [*rows, *((rf'{layer}\.{theirs}\.(.+)', rf'{ours}.ffn.layers.{own}.\2') for theirs, own in layers)]


_GROUNDING: Rows = [
    *_SWIN,
    *_RESNET,
    *_block(_CELLS, r'encoder.layers.\1', ('self_attn_layer_norm', 'final_layer_norm')),
    (rf'{_CELLS}\.self_attn\.{_POINTS}\.(.+)', r'encoder.layers.\1.self_attn.\2.\3'),
    *_block(_WORDS, r'encoder.text_layers.\1', ('layer_norm_before', 'layer_norm_after')),
    *_attention(rf'{_WORDS}\.self_attn', r'encoder.text_layers.\1.self_attn'),
    *[
        (rf'{_FUSION}\.{theirs}(\..+)?', rf'encoder.fusion_layers.\1.{ours}\2')
        for letter, word in (('v', 'vision'), ('l', 'text'))
        for theirs, ours in (
            (f'{word}_param', f'gamma_{letter}'),
            (f'layer_norm_{word}', f'layer_norm_{letter}'),
            (rf'attn\.{word}_proj', f'attn.{letter}_proj'),
            (rf'attn\.values_{word}_proj', f'attn.values_{letter}_proj'),
            (rf'attn\.out_{word}_proj', f'attn.out_{letter}_proj'),
        )
    ],
    *_block(
        _DECODER,
        r'decoder.layers.\1',
        ('self_attn_layer_norm', 'encoder_attn_text_layer_norm', 'encoder_attn_layer_norm', 'final_layer_norm'),
    ),
    *_attention(rf'{_DECODER}\.self_attn', r'decoder.layers.\1.self_attn'),
    *_attention(rf'{_DECODER}\.encoder_attn_text', r'decoder.layers.\1.cross_attn_text'),
    (rf'{_DECODER}\.encoder_attn\.{_POINTS}\.(.+)', r'decoder.layers.\1.cross_attn.\2.\3'),
    (r'model\.decoder\.layer_norm\.(.+)', r'decoder.norm.\1'),
    (r'model\.decoder\.reference_points_head\.(.+)', r'decoder.ref_point_head.\1'),
    (r'model\.input_proj_vision\.(\d)\.0\.(.+)', r'neck.convs.\1.conv.\2'),
    (r'model\.input_proj_vision\.(\d)\.1\.(.+)', r'neck.convs.\1.gn.\2'),
    (r'model\.input_proj_vision\.(\d)\.0\.(.+)', r'neck.extra_convs.{\1-CONVS}.conv.\2'),
    (r'model\.input_proj_vision\.(\d)\.1\.(.+)', r'neck.extra_convs.{\1-CONVS}.gn.\2'),
    (r'model\.level_embed', r'level_embed'),
    (r'model\.enc_output\.(.+)', r'memory_trans_fc.\1'),
    (r'model\.enc_output_norm\.(.+)', r'memory_trans_norm.\1'),
    (r'model\.query_position_embeddings\.weight', r'query_embedding.weight'),
    (r'model\.text_backbone\.(.+)', r'language_model.language_backbone.body.model.\1'),
    (r'model\.text_projection\.(.+)', r'text_feat_map.\1'),
    (r'(?:model\.decoder\.)?class_embed\.(\d)\.bias', r'bbox_head.cls_branches.\1.bias'),
    (r'model\.encoder_output_class_embed\.bias', r'bbox_head.cls_branches.{0+LAYERS}.bias'),
    (r'(?:model\.decoder\.)?bbox_embed\.(\d)\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.\1.{\2*2}.\3'),
    (r'model\.encoder_output_bbox_embed\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.{0+LAYERS}.{\1*2}.\2'),
]
GROUNDING_TABLES: dict[str, Rows] = {'transformers Grounding DINO': _GROUNDING}
