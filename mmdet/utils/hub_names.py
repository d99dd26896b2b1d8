"""Names of the weights of `transformers`' models, which the Hugging Face hub has, as the names of ours.

Tables as in :mod:`mmdet.utils.key_maps`. Files have the names of version 4 of `transformers`, which version 5 writes,
too; the state dict of its models has others, and both are here. ``NAME@0``, ``NAME@1`` and ``NAME@2`` are the rows of
one tensor, one part after the other.
"""

from __future__ import annotations

Rows = list[tuple[str, str]]

# A backbone lies in a detector, in a classifier, or is all that is in the file.
_DETECTOR = r'(?:detr\.)?model\.backbone\.(?:conv_encoder\.)?model|model\.pixel_level_module\.encoder(?:\.model)?'
_IN = rf'(?:(?:{_DETECTOR})\.)?(?:(?:resnet|swin|convnext)\.)?'
_STAGE = rf'{_IN}encoder\.stages\.(\d)\.layers\.(\d+)'
_RESNET: Rows = [
    (rf'{_IN}((?:conv1|bn1|layer\d)\..+)', r'backbone.\1'),  # timm's
    (rf'{_IN}embedder\.embedder\.convolution\.weight', r'backbone.conv1.weight'),
    (rf'{_IN}embedder\.embedder\.normalization\.(.+)', r'backbone.bn1.\1'),
    (rf'{_STAGE}\.layer\.(\d)\.convolution\.weight', r'backbone.layer{\1+1}.\2.conv{\3+1}.weight'),
    (rf'{_STAGE}\.layer\.(\d)\.normalization\.(.+)', r'backbone.layer{\1+1}.\2.bn{\3+1}.\4'),
    (rf'{_STAGE}\.shortcut\.convolution\.weight', r'backbone.layer{\1+1}.\2.downsample.0.weight'),
    (rf'{_STAGE}\.shortcut\.normalization\.(.+)', r'backbone.layer{\1+1}.\2.downsample.1.\3'),
]
_BLOCK = rf'{_IN}encoder\.layers\.(\d)\.blocks\.(\d+)'
_OUR_BLOCK = r'backbone.stages.\1.blocks.\2'
_SWIN: Rows = [
    (rf'{_IN}embeddings\.patch_embeddings\.projection\.(.+)', r'backbone.patch_embed.projection.\1'),
    (rf'{_IN}embeddings\.norm\.(.+)', r'backbone.patch_embed.norm.\1'),
    (rf'{_IN}embeddings\.position_embeddings', r'backbone.absolute_pos_embed'),
    *[
        (rf'{_BLOCK}\.attention\.(?:self\.{theirs}|{theirs[0]}_proj)\.(.+)', rf'{_OUR_BLOCK}.attn.w_msa.qkv.\3@{part}')
        for part, theirs in enumerate(('query', 'key', 'value'))
    ],
    (
        rf'{_BLOCK}\.attention\.(?:self|relative_position_bias)\.relative_position_bias_table',
        rf'{_OUR_BLOCK}.attn.w_msa.relative_position_bias_table',
    ),
    (rf'{_BLOCK}\.attention\.self\.relative_position_index', rf'{_OUR_BLOCK}.attn.w_msa.relative_position_index'),
    (rf'{_BLOCK}\.attention\.(?:output\.dense|o_proj)\.(.+)', rf'{_OUR_BLOCK}.attn.w_msa.proj.\3'),
    (rf'{_BLOCK}\.layernorm_before\.(.+)', rf'{_OUR_BLOCK}.norm1.\3'),
    (rf'{_BLOCK}\.layernorm_after\.(.+)', rf'{_OUR_BLOCK}.norm2.\3'),
    (rf'{_BLOCK}\.(?:intermediate\.dense|mlp\.fc1)\.(.+)', rf'{_OUR_BLOCK}.ffn.layers.0.0.\3'),
    (rf'{_BLOCK}\.(?:output\.dense|mlp\.fc2)\.(.+)', rf'{_OUR_BLOCK}.ffn.layers.1.\3'),
    (rf'{_IN}encoder\.layers\.(\d)\.downsample\.(norm|reduction)\.(.+)', r'backbone.stages.\1.downsample.\2.\3'),
    (rf'{_IN}hidden_states_norms\.stage(\d)\.(.+)', r'backbone.norm{\1-1}.\2'),
    (rf'{_IN}hidden_states_norms\.(\d)\.(.+)', r'backbone.norm\1.\2'),  # of MaskFormer
]
_CONVNEXT: Rows = [
    (rf'{_IN}embeddings\.patch_embeddings\.(.+)', r'backbone.downsample_layers.0.0.\1'),
    (rf'{_IN}embeddings\.layernorm\.(.+)', r'backbone.downsample_layers.0.1.\1'),
    (rf'{_IN}encoder\.stages\.(\d)\.downsampling_layer\.(\d)\.(.+)', r'backbone.downsample_layers.\1.\2.\3'),
    (rf'{_STAGE}\.layer_scale_parameter', r'backbone.stages.\1.\2.gamma'),
    (rf'{_STAGE}\.dwconv\.(.+)', r'backbone.stages.\1.\2.depthwise_conv.\3'),
    (rf'{_STAGE}\.layernorm\.(.+)', r'backbone.stages.\1.\2.norm.\3'),
    (rf'{_STAGE}\.pwconv(\d)\.(.+)', r'backbone.stages.\1.\2.pointwise_conv\3.\4'),
    (rf'{_IN}hidden_states_norms\.stage(\d)\.(.+)', r'backbone.norm{\1-1}.\2'),
    (r'convnext\.layernorm\.(.+)', r'backbone.norm3.\1'),
]
_BACKBONES = [*_RESNET, *_SWIN, *_CONVNEXT]

_PLAIN = r'(?:(?:backbone|vitdet)\.)?'
_PLAIN_BLOCK = rf'{_PLAIN}encoder\.layer\.(\d+)'
_VITDET: Rows = [
    (rf'{_PLAIN}embeddings\.position_embeddings', r'backbone.pos_embed'),
    (rf'{_PLAIN}embeddings\.projection\.(.+)', r'backbone.patch_embed.proj.\1'),
    (rf'{_PLAIN_BLOCK}\.attention\.(.+)', r'backbone.blocks.\1.attn.\2'),
    (rf'{_PLAIN_BLOCK}\.(norm\d\..+|mlp\..+)', r'backbone.blocks.\1.\2'),
]

_MODEL = r'(?:detr\.)?model'
_ENCODER, _DECODER = rf'{_MODEL}\.encoder\.layers\.(\d+)', rf'{_MODEL}\.decoder\.layers\.(\d+)'


def _joint_attention(layer: str, theirs: str, ours: str) -> Rows:
    """``nn.MultiheadAttention``, whose three projections are apart in theirs."""
    return [
        *[
            (rf'{layer}\.{theirs}\.{letter}_proj\.(weight|bias)', rf'{ours}.attn.in_proj_\2@{part}')
            for part, letter in enumerate('qkv')
        ],
        (rf'{layer}\.{theirs}\.(?:out|o)_proj\.(.+)', rf'{ours}.attn.out_proj.\2'),
    ]


def _feed_forward(layer: str, ours: str, norm: int) -> Rows:
    return [
        (rf'{layer}\.(?:mlp\.)?fc1\.(.+)', rf'{ours}.ffn.layers.0.0.\2'),
        (rf'{layer}\.(?:mlp\.)?activation_fn\.(.+)', rf'{ours}.ffn.layers.0.1.\2'),  # a PReLU has a weight
        (rf'{layer}\.(?:mlp\.)?fc2\.(.+)', rf'{ours}.ffn.layers.1.\2'),
        (rf'{layer}\.(?:mlp\.)?final_layer_norm\.(.+)', rf'{ours}.norms.{norm}.\2'),
    ]


_OUR_ENCODER, _OUR_DECODER = r'encoder.layers.\1', r'decoder.layers.\1'
_TRANSFORMER: Rows = [
    *_BACKBONES,
    *_feed_forward(_ENCODER, _OUR_ENCODER, 1),
    *_feed_forward(_DECODER, _OUR_DECODER, 2),
    (rf'{_ENCODER}\.self_attn_layer_norm\.(.+)', rf'{_OUR_ENCODER}.norms.0.\2'),
    (rf'{_DECODER}\.self_attn(?:\.self_attn)?_layer_norm\.(.+)', rf'{_OUR_DECODER}.norms.0.\2'),
    (rf'{_DECODER}\.(?:encoder|cross_attn\.cross)_attn_layer_norm\.(.+)', rf'{_OUR_DECODER}.norms.1.\2'),
    (rf'{_MODEL}\.input_projection\.(.+)', r'neck.convs.0.conv.\1'),
    (rf'{_MODEL}\.query_(?:position|refpoint)_embeddings\.weight', r'query_embedding.weight'),
    (rf'{_MODEL}\.decoder\.layernorm\.(.+)', r'decoder.post_norm.\1'),
    (r'(?:detr\.)?(?:class_labels_classifier|class_embed)\.(weight|bias)', r'bbox_head.fc_cls.\1'),
]
_ONE_MAP: Rows = [*_joint_attention(_ENCODER, 'self_attn', _OUR_ENCODER + '.self_attn'), *_TRANSFORMER]
_BOXES_BY_FFN: Rows = [
    (r'(?:detr\.)?bbox_predictor\.layers\.0\.(.+)', r'bbox_head.reg_ffn.layers.0.0.\1'),
    (r'(?:detr\.)?bbox_predictor\.layers\.1\.(.+)', r'bbox_head.reg_ffn.layers.1.\1'),
    (r'(?:detr\.)?bbox_predictor\.layers\.2\.(.+)', r'bbox_head.fc_reg.\1'),
]
_DETR: Rows = [
    *_joint_attention(_DECODER, 'self_attn', _OUR_DECODER + '.self_attn'),
    *_joint_attention(_DECODER, 'encoder_attn', _OUR_DECODER + '.cross_attn'),
    *_BOXES_BY_FFN,
    *_ONE_MAP,
]
_STRETCHED: Rows = [
    (rf'{_MODEL}\.(encoder|decoder)\.query_scale\.(.+)', r'\1.query_scale.\2'),
    (rf'{_MODEL}\.decoder\.(ref_point_head|ref_anchor_head)\.(.+)', r'decoder.\1.\2'),
]


def _apart_attention(old: str, new: str, ours: str) -> Rows:
    """Conditional DETR's, whose projections lay beside the attention in version 4."""
    return [
        (rf'{_DECODER}\.{old}_([qk])(content|pos)_proj\.(.+)', rf'{_OUR_DECODER}.{ours}.\2\3_proj.\4'),
        (rf'{_DECODER}\.{new}\.([qk])_(content|pos)_proj\.(.+)', rf'{_OUR_DECODER}.{ours}.\2\3_proj.\4'),
        (rf'{_DECODER}\.(?:{old}_|{new}\.)v_proj\.(.+)', rf'{_OUR_DECODER}.{ours}.v_proj.\2'),
        (rf'{_DECODER}\.{new}\.(?:out|o)_proj\.(.+)', rf'{_OUR_DECODER}.{ours}.out_proj.\2'),
    ]


_CONDITIONAL: Rows = [
    *_apart_attention('sa', 'self_attn', 'self_attn'),
    *_apart_attention('ca', 'encoder_attn', 'cross_attn'),
    (
        rf'{_DECODER}\.(?:ca_qpos_sine|encoder_attn\.q_pos_sine)_proj\.(.+)',
        rf'{_OUR_DECODER}.cross_attn.qpos_sine_proj.\2',
    ),
    *_STRETCHED,
    *_BOXES_BY_FFN,
    *_ONE_MAP,
]
_DAB: Rows = [
    *[
        (rf'{_DECODER}\.{attn}\.{attn}_{theirs}_proj\.(.+)', rf'{_OUR_DECODER}.{attn}.{ours}_proj.\2')
        for attn in ('self_attn', 'cross_attn')
        for theirs, ours in (
            ('query_content', 'qcontent'),
            ('query_pos', 'qpos'),
            ('query_pos_sine', 'qpos_sine'),
            ('key_content', 'kcontent'),
            ('key_pos', 'kpos'),
            ('value', 'v'),
        )
    ],
    (rf'{_DECODER}\.(self|cross)_attn\.\2_attn\.output_proj\.(.+)', rf'{_OUR_DECODER}.\2_attn.out_proj.\3'),
    (r'(?:model\.decoder\.bbox_embed|bbox_predictor)\.(layers\..+)', r'bbox_head.fc_reg.\1'),
    (r'model\.patterns\.weight', r'patterns.weight'),
    *_STRETCHED,
    *_ONE_MAP,
]
_POINTS = r'(sampling_offsets|attention_weights|value_proj|output_proj)'
_DEFORMABLE: Rows = [
    (rf'{_ENCODER}\.self_attn\.{_POINTS}\.(.+)', rf'{_OUR_ENCODER}.self_attn.\2.\3'),
    (rf'{_DECODER}\.encoder_attn\.{_POINTS}\.(.+)', rf'{_OUR_DECODER}.cross_attn.\2.\3'),
    *_joint_attention(_DECODER, 'self_attn', _OUR_DECODER + '.self_attn'),
    (rf'{_MODEL}\.input_proj\.(\d)\.0\.(.+)', r'neck.convs.\1.conv.\2'),
    (rf'{_MODEL}\.input_proj\.(\d)\.1\.(.+)', r'neck.convs.\1.gn.\2'),
    (rf'{_MODEL}\.input_proj\.(\d)\.0\.(.+)', r'neck.extra_convs.{\1-CONVS}.conv.\2'),
    (rf'{_MODEL}\.input_proj\.(\d)\.1\.(.+)', r'neck.extra_convs.{\1-CONVS}.gn.\2'),
    (rf'{_MODEL}\.level_embed', r'level_embed'),
    (rf'{_MODEL}\.reference_points\.(.+)', r'reference_points_fc.\1'),
    (rf'{_MODEL}\.enc_output\.(.+)', r'memory_trans_fc.\1'),
    (rf'{_MODEL}\.enc_output_norm\.(.+)', r'memory_trans_norm.\1'),
    (rf'{_MODEL}\.pos_trans\.(.+)', r'pos_trans_fc.\1'),
    (rf'{_MODEL}\.pos_trans_norm\.(.+)', r'pos_trans_norm.\1'),
    (r'(?:detr\.)?(?:model\.decoder\.)?class_embed\.(\d)\.(.+)', r'bbox_head.cls_branches.\1.\2'),
    (r'(?:detr\.)?(?:model\.decoder\.)?bbox_embed\.(\d)\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.\1.{\2*2}.\3'),
    *_TRANSFORMER,
]
_PIXELS, _OUR_PIXELS = r'model\.pixel_level_module\.decoder', r'panoptic_head.pixel_decoder'
_MASKS, _OUR_MASKS = r'model\.transformer_module\.decoder', r'panoptic_head.transformer_decoder'
_PIXEL_LAYER, _OUR_PIXEL_LAYER = rf'{_PIXELS}\.encoder\.layers\.(\d+)', rf'{_OUR_PIXELS}.encoder.layers.\1'
_MASK_LAYER, _OUR_MASK_LAYER = rf'{_MASKS}\.layers\.(\d+)', rf'{_OUR_MASKS}.layers.\1'
_MASK_HEAD: Rows = [
    *_BACKBONES,
    *_joint_attention(_MASK_LAYER, 'self_attn', _OUR_MASK_LAYER + '.self_attn'),
    *_feed_forward(_MASK_LAYER, _OUR_MASK_LAYER, 2),
    (rf'{_MASKS}\.layernorm\.(.+)', rf'{_OUR_MASKS}.post_norm.\1'),
    (rf'{_PIXELS}\.mask_projection\.(.+)', rf'{_OUR_PIXELS}.mask_feature.\1'),
    (r'model\.transformer_module\.queries_embedder\.weight', r'panoptic_head.query_embed.weight'),
    (rf'(?:{_MASKS}\.mask_predictor\.)?mask_embedder\.(\d)\.0\.(.+)', r'panoptic_head.mask_embed.{\1*2}.\2'),
    (r'class_predictor\.(.+)', r'panoptic_head.cls_embed.\1'),
]
_MASKFORMER: Rows = [
    *_joint_attention(_MASK_LAYER, 'encoder_attn', _OUR_MASK_LAYER + '.cross_attn'),
    (rf'{_MASK_LAYER}\.self_attn_layer_norm\.(.+)', rf'{_OUR_MASK_LAYER}.norms.0.\2'),
    (rf'{_MASK_LAYER}\.encoder_attn_layer_norm\.(.+)', rf'{_OUR_MASK_LAYER}.norms.1.\2'),
    (rf'{_PIXELS}\.fpn\.stem\.0\.(.+)', rf'{_OUR_PIXELS}.last_feat_conv.conv.\1'),
    (rf'{_PIXELS}\.fpn\.stem\.1\.(.+)', rf'{_OUR_PIXELS}.last_feat_conv.gn.\1'),
    *[
        (rf'{_PIXELS}\.fpn\.layers\.{layer}\.{theirs}\.{part}\.(.+)', rf'{_OUR_PIXELS}.{ours}.{2 - layer}.{name}.\1')
        for layer in range(3)  # from the smallest map up; ours from the largest down
        for theirs, ours in (('proj', 'lateral_convs'), ('block', 'output_convs'))
        for part, name in enumerate(('conv', 'gn'))
    ],
    (r'model\.transformer_module\.input_projection\.(.+)', r'panoptic_head.decoder_input_proj.\1'),
    *_MASK_HEAD,
]
_MASK2FORMER: Rows = [
    (rf'{_PIXEL_LAYER}\.self_attn\.{_POINTS}\.(.+)', rf'{_OUR_PIXEL_LAYER}.self_attn.\2.\3'),
    (rf'{_PIXEL_LAYER}\.self_attn_layer_norm\.(.+)', rf'{_OUR_PIXEL_LAYER}.norms.0.\2'),
    *_feed_forward(_PIXEL_LAYER, _OUR_PIXEL_LAYER, 1),
    *[
        (rf'{_PIXELS}\.{theirs}\.{part}\.(.+)', rf'{_OUR_PIXELS}.{ours}.{name}.\{group}')
        for theirs, ours, group in (
            (r'input_projections\.(\d)', r'input_convs.\1', 2),
            (r'adapter_1', 'lateral_convs.0', 1),
            (r'layer_1', 'output_convs.0', 1),
        )
        for part, name in enumerate(('conv', 'gn'))
    ],
    (rf'{_PIXELS}\.level_embed', rf'{_OUR_PIXELS}.level_encoding.weight'),
    (rf'{_MASK_LAYER}\.cross_attn\.(.+)', rf'{_OUR_MASK_LAYER}.cross_attn.attn.\2'),
    (rf'{_MASK_LAYER}\.cross_attn_layer_norm\.(.+)', rf'{_OUR_MASK_LAYER}.norms.0.\2'),  # before the self attention
    (rf'{_MASK_LAYER}\.self_attn_layer_norm\.(.+)', rf'{_OUR_MASK_LAYER}.norms.1.\2'),
    (r'model\.transformer_module\.level_embed\.weight', r'panoptic_head.level_embed.weight'),
    (r'model\.transformer_module\.queries_features\.weight', r'panoptic_head.query_feat.weight'),
    *_MASK_HEAD,
]

HUB_TABLES: dict[str, Rows] = {
    'transformers ResNet': _RESNET,
    'transformers Swin': _SWIN,
    'transformers ConvNeXt': _CONVNEXT,
    'transformers ViTDet': _VITDET,
    'transformers DETR': _DETR,
    'transformers Conditional DETR': _CONDITIONAL,
    'transformers DAB-DETR': _DAB,
    'transformers Deformable DETR': _DEFORMABLE,
    'transformers MaskFormer': _MASKFORMER,
    'transformers Mask2Former': _MASK2FORMER,
}
