"""Names of the weights of real-time detectors of `transformers` and of their authors, as the names of ours.

Tables as in :mod:`mmdet.utils.hub_names`, which has the rules for all. Files of RF-DETR have the names of its authors'
own releases; those of RT-DETR, D-FINE (DEIM's are the same) and LW-DETR have tables of their own. A replacement that is
empty drops a name: what ours computes is no weight.
"""

from __future__ import annotations

Rows = list[tuple[str, str]]

_QKV = list(enumerate(('q', 'k', 'v')))
_BACK = r'(?:model\.)?(?:backbone|conv_encoder)\.model'
_STAGE = rf'{_BACK}\.encoder\.stages\.(\d)\.layers\.(\d+)'
_OUR_STAGE = r'backbone.layer{\1+1}.\2'
_RESNET_VD: Rows = [
    *[
        (rf'{_BACK}\.embedder\.embedder\.{number}\.{theirs}\.(.+)', rf'backbone.stem.{3 * number + place}.\1')
        for number in range(3)
        for place, theirs in enumerate(('convolution', 'normalization'))
    ],
    (rf'{_STAGE}\.shortcut\.(?:1\.)?convolution\.(.+)', rf'{_OUR_STAGE}.downsample.1.\3'),
    (rf'{_STAGE}\.shortcut\.(?:1\.)?normalization\.(.+)', rf'{_OUR_STAGE}.downsample.2.\3'),
    (rf'{_STAGE}\.layer\.(\d)\.convolution\.(.+)', rf'{_OUR_STAGE}.conv{{\3+1}}.\4'),
    (rf'{_STAGE}\.layer\.(\d)\.normalization\.(.+)', rf'{_OUR_STAGE}.bn{{\3+1}}.\4'),
]
_HGNET: Rows = [
    (rf'{_BACK}\.{theirs}\.(.+)\.{part}\.(.+)', rf'backbone.{ours}\1.{own}.\2')
    for theirs, ours in (('embedder', 'stem.'), (r'encoder\.stages', 'stages.'))
    for part, own in (('convolution', 'conv'), ('normalization', 'bn'), ('lab', 'lab'))
]

_CELLS = r'model\.encoder\.(?:aifi|encoder)\.(\d)\.layers\.(\d+)'
_OUR_CELLS = r'neck.encoder.\1.layers.\2'
_LAYER, _OUR_LAYER = r'(?:model|transformer|decoder)\.decoder\.layers\.(\d+)', r'decoder.layers.\1'
_POINTS = r'(sampling_offsets|attention_weights|value_proj|output_proj)'
_SELF: Rows = [
    *[
        (rf'{_LAYER}\.self_attn\.{letter}_proj\.(weight|bias)', rf'{_OUR_LAYER}.self_attn.attn.in_proj_\2@{part}')
        for part, letter in _QKV
    ],
    (rf'{_LAYER}\.self_attn\.(?:out|o)_proj\.(.+)', rf'{_OUR_LAYER}.self_attn.attn.out_proj.\2'),
    (rf'{_LAYER}\.self_attn\.(in_proj_.+)', rf'{_OUR_LAYER}.self_attn.attn.\2'),
    (rf'{_LAYER}\.(?:self_attn_layer_norm|norm1)\.(.+)', rf'{_OUR_LAYER}.norms.0.\2'),
    (rf'{_LAYER}\.(?:encoder|cross)_attn\.{_POINTS}\.(.+)', rf'{_OUR_LAYER}.cross_attn.\2.\3'),
    (rf'{_LAYER}\.(?:fc1|mlp\.fc1|mlp\.layers\.0|linear1)\.(.+)', rf'{_OUR_LAYER}.ffn.layers.0.0.\2'),
    (rf'{_LAYER}\.(?:fc2|mlp\.fc2|mlp\.layers\.1|linear2)\.(.+)', rf'{_OUR_LAYER}.ffn.layers.1.\2'),
]
_PYRAMID = r'((?:lateral|downsample)_convs\..+|(?:fpn|pan)_blocks\..+)'
_HYBRID: Rows = [
    *_RESNET_VD,
    *_HGNET,
    (r'model\.encoder_input_proj\.(\d)\.0\.(.+)', r'neck.input_proj.\1.conv.\2'),
    (r'model\.encoder_input_proj\.(\d)\.1\.(.+)', r'neck.input_proj.\1.bn.\2'),
    (r'model\.decoder_input_proj\.(\d)\.(?:0|conv)\.(.+)', r'neck.decoder_proj.\1.conv.\2'),
    (r'model\.decoder_input_proj\.(\d)\.(?:1|norm)\.(.+)', r'neck.decoder_proj.\1.bn.\2'),
    *[
        (rf'{_CELLS}\.self_attn\.{letter}_proj\.(weight|bias)', rf'{_OUR_CELLS}.self_attn.attn.in_proj_\3@{part}')
        for part, letter in _QKV
    ],
    (rf'{_CELLS}\.self_attn\.(?:out|o)_proj\.(.+)', rf'{_OUR_CELLS}.self_attn.attn.out_proj.\3'),
    (rf'{_CELLS}\.self_attn_layer_norm\.(.+)', rf'{_OUR_CELLS}.norms.0.\3'),
    (rf'{_CELLS}\.final_layer_norm\.(.+)', rf'{_OUR_CELLS}.norms.1.\3'),
    (rf'{_CELLS}\.(?:fc1|mlp\.fc1|mlp\.layers\.0)\.(.+)', rf'{_OUR_CELLS}.ffn.layers.0.0.\3'),
    (rf'{_CELLS}\.(?:fc2|mlp\.fc2|mlp\.layers\.1)\.(.+)', rf'{_OUR_CELLS}.ffn.layers.1.\3'),
    (r'model\.encoder\.downsample_convs\.(\d)\.conv([12])\.norm\.(.+)', r'neck.downsample_convs.\1.{\2-1}.bn.\3'),
    (r'model\.encoder\.downsample_convs\.(\d)\.conv([12])\.(conv\..+)', r'neck.downsample_convs.\1.{\2-1}.\3'),
    (rf'model\.encoder\.{_PYRAMID}\.norm\.(.+)', r'neck.\1.bn.\2'),
    (rf'model\.encoder\.{_PYRAMID}', r'neck.\1'),
    (r'model\.denoising_class_embed\.(.+)', r'dn_query_generator.label_embedding.\1'),
    (r'model\.weight_embedding\.(.+)', r'query_embedding.\1'),
    (r'model\.enc_output\.0\.(.+)', r'memory_trans_fc.\1'),
    (r'model\.enc_output\.1\.(.+)', r'memory_trans_norm.\1'),
    (r'model\.enc_score_head\.(.+)', r'bbox_head.cls_branches.{0+LAYERS}.\1'),
    (r'model\.enc_bbox_head\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.{0+LAYERS}.{\1*2}.\2'),
    (r'(?:model\.decoder\.)?class_embed\.(\d)\.(.+)', r'bbox_head.cls_branches.\1.\2'),
    (r'(?:model\.decoder\.)?bbox_embed\.(\d)\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.\1.{\2*2}.\3'),
    (r'model\.decoder\.query_pos_head\.(.+)', r'decoder.ref_point_head.\1'),
    (rf'{_LAYER}\.encoder_attn\.(?:n|num)_points_scale', ''),
    *_SELF,
]
_RTDETR: Rows = [
    (rf'{_LAYER}\.encoder_attn_layer_norm\.(.+)', rf'{_OUR_LAYER}.norms.1.\2'),
    (rf'{_LAYER}\.final_layer_norm\.(.+)', rf'{_OUR_LAYER}.norms.2.\2'),
    *_HYBRID,
]
_DFINE: Rows = [
    (rf'{_LAYER}\.final_layer_norm\.(.+)', rf'{_OUR_LAYER}.norms.1.\2'),
    (rf'{_LAYER}\.(gateway\..+)', rf'{_OUR_LAYER}.\2'),
    (r'model\.decoder\.pre_bbox_head\.layers\.(\d)\.(.+)', r'bbox_head.pre_bbox_head.{\1*2}.\2'),
    (r'model\.decoder\.(lqe_layers\..+)', r'bbox_head.\1'),
    (r'model\.decoder\.(?:up|reg_scale)', ''),
    *_HYBRID,
]


def _dinov3(back: str, own: str) -> Rows:
    """Those of a DINOv3 under these prefixes."""
    block, own_block = rf'{back}(?:model\.)?layer\.(\d+)', rf'{own}blocks.\1'
    return [
        (rf'{back}embeddings\.patch_embeddings\.(.+)', rf'{own}patch_embed.\1'),
        (rf'{back}embeddings\.cls_token', f'{own}cls_token'),
        (rf'{back}embeddings\.register_tokens', f'{own}registers'),
        (rf'{back}embeddings\.mask_token', ''),
        (rf'{back}norm\.(.+)', rf'{own}norm.\1'),
        *[
            row
            for part, letter in _QKV
            for row in (
                (rf'{block}\.attention\.{letter}_proj\.(weight|bias)', rf'{own_block}.attn.qkv.\2@{part}'),
                (rf'{block}\.attention\.{letter}_proj\.bias', rf'{own_block}.attn.{letter}_bias'),
            )
        ],
        (rf'{block}\.attention\.o_proj\.(.+)', rf'{own_block}.attn.proj.\2'),
        (rf'{block}\.layer_scale(\d)\.lambda1', rf'{own_block}.gamma\2'),
        (rf'{block}\.norm(\d)\.(.+)', rf'{own_block}.norm\2.\3'),
        (rf'{block}\.mlp\.up_proj\.(.+)', rf'{own_block}.mlp.0.\2'),
        (rf'{block}\.mlp\.down_proj\.(.+)', rf'{own_block}.mlp.2.\2'),
        (rf'{block}\.mlp\.gate_proj\.(.+)', rf'{own_block}.mlp.w12.\2@0'),
        (rf'{block}\.mlp\.up_proj\.(.+)', rf'{own_block}.mlp.w12.\2@1'),
        (rf'{block}\.mlp\.down_proj\.(.+)', rf'{own_block}.mlp.w3.\2'),
    ]


_DETAILS = r'model\.conv_encoder\.spatial_tuning_adapter'
_MIXING = r'model\.encoder\.(input_proj\.\d|down_conv\d|bi_fusion_conv|(?:fpn|pan)_block(?:\..+)?)'
_DEIMV2: Rows = [
    *_dinov3(r'model\.conv_encoder\.backbone\.', 'backbone.vit.'),
    *[
        row
        for part, own in (('conv', 'conv'), ('norm', 'bn'))
        for row in (
            (rf'{_DETAILS}\.stem_conv\.{part}\.(.+)', rf'backbone.details.stem.{own}.\1'),
            (rf'{_DETAILS}\.conv(\d)\.{part}\.(.+)', rf'backbone.details.convs.{{\1-2}}.{own}.\2'),
            (
                rf'model\.conv_encoder\.(?:encoder_input_proj|fusion_proj)\.(\d)\.{part}\.(.+)',
                rf'neck.input_proj.\1.{own}.\2',
            ),
            (rf'{_MIXING}\.{part}\.(.+)', rf'neck.\1.{own}.\2'),
        )
    ],
    (rf'{_LAYER}\.encoder_attn_layer_norm\.(.+)', rf'{_OUR_LAYER}.gateway.norm.\2'),
    (rf'{_LAYER}\.mlp\.gate_proj\.(.+)', rf'{_OUR_LAYER}.ffn.w12.\2@0'),
    (rf'{_LAYER}\.mlp\.up_proj\.(.+)', rf'{_OUR_LAYER}.ffn.w12.\2@1'),
    (rf'{_LAYER}\.mlp\.down_proj\.(.+)', rf'{_OUR_LAYER}.ffn.w3.\2'),
    *_DFINE,
]

_PLAIN = r'(?:model\.backbone\.backbone|backbone\.0\.encoder\.encoder)'
_BLOCK, _OUR_BLOCK = rf'{_PLAIN}\.encoder\.layer\.(\d+)', r'backbone.blocks.\1'
_VIT: Rows = [
    (rf'{_PLAIN}\.embeddings\.position_embeddings', r'backbone.pos_embed'),
    (rf'{_PLAIN}\.embeddings\.(?:patch_embeddings\.)?projection\.(.+)', r'backbone.patch_embed.\1'),
    (rf'{_PLAIN}\.embeddings\.cls_token', r'backbone.cls_token'),
    (rf'{_PLAIN}\.embeddings\.mask_token', ''),
    (rf'{_PLAIN}\.layernorm\.(.+)', r'backbone.norm.\1'),
    *[
        row
        for part, theirs in enumerate(('query', 'key', 'value'))
        for row in (
            (
                rf'{_BLOCK}\.attention\.(?:attention\.{theirs}|{theirs[0]}_proj)\.(weight|bias)',
                rf'{_OUR_BLOCK}.attn.qkv.\2@{part}',
            ),
            (
                rf'{_BLOCK}\.attention\.(?:attention\.{theirs}|{theirs[0]}_proj)\.bias',
                rf'{_OUR_BLOCK}.attn.{theirs[0]}_bias',
            ),
        )
    ],
    (rf'{_BLOCK}\.attention\.(?:output\.dense|output|o_proj)\.(.+)', rf'{_OUR_BLOCK}.attn.proj.\2'),
    (rf'{_BLOCK}\.(?:layer_scale|gamma_)(\d)(?:\.lambda1)?', rf'{_OUR_BLOCK}.gamma\2'),
    (rf'{_BLOCK}\.(?:layernorm_before|norm1)\.(.+)', rf'{_OUR_BLOCK}.norm1.\2'),
    (rf'{_BLOCK}\.(?:layernorm_after|norm2)\.(.+)', rf'{_OUR_BLOCK}.norm2.\2'),
    (rf'{_BLOCK}\.(?:intermediate|mlp)\.fc1\.(.+)', rf'{_OUR_BLOCK}.mlp.0.\2'),
    (rf'{_BLOCK}\.(?:intermediate|mlp)\.fc2\.(.+)', rf'{_OUR_BLOCK}.mlp.2.\2'),
]
_PROJECTOR = r'model\.backbone\.projector'
_SCALE = rf'{_PROJECTOR}\.scale_layers\.(\d)'
_MIXER = r'backbone\.0\.projector\.stages\.(\d)'
_MIXERS: Rows = [
    *[
        row
        for norm in ('bn', 'ln')
        for row in (
            (rf'{_SCALE}\.sampling_layers\.(\d)\.layers\.(\d)\.norm\.(.+)', rf'neck.samplers.\1.\2.\3.{norm}.\4'),
            (
                rf'{_SCALE}\.projector_layer\.bottlenecks\.(\d)\.conv(\d)\.norm\.(.+)',
                rf'neck.mixers.\1.bottlenecks.\2.{{\3-1}}.{norm}.\4',
            ),
            (
                rf'{_PROJECTOR}\.projector_layer\.bottlenecks\.(\d)\.conv(\d)\.norm\.(.+)',
                rf'neck.mixers.0.bottlenecks.\1.{{\2-1}}.{norm}.\3',
            ),
            (rf'{_SCALE}\.projector_layer\.conv(\d)\.norm\.(.+)', rf'neck.mixers.\1.conv\2.{norm}.\3'),
            (rf'{_PROJECTOR}\.projector_layer\.conv(\d)\.norm\.(.+)', rf'neck.mixers.0.conv\1.{norm}.\2'),
            (rf'{_MIXER}\.0\.cv(\d)\.bn\.(.+)', rf'neck.mixers.\1.conv\2.{norm}.\3'),
            (rf'{_MIXER}\.0\.m\.(\d)\.cv(\d)\.bn\.(.+)', rf'neck.mixers.\1.bottlenecks.\2.{{\3-1}}.{norm}.\4'),
        )
    ],
    (rf'{_SCALE}\.sampling_layers\.(\d)\.layers\.(.+)', r'neck.samplers.\1.\2.\3'),
    (rf'{_SCALE}\.projector_layer\.bottlenecks\.(\d)\.conv(\d)\.(.+)', r'neck.mixers.\1.bottlenecks.\2.{\3-1}.\4'),
    (rf'{_PROJECTOR}\.projector_layer\.bottlenecks\.(\d)\.conv(\d)\.(.+)', r'neck.mixers.0.bottlenecks.\1.{\2-1}.\3'),
    (rf'{_SCALE}\.projector_layer\.(conv\d\..+)', r'neck.mixers.\1.\2'),
    (rf'{_PROJECTOR}\.projector_layer\.(conv\d\..+)', r'neck.mixers.0.\1'),
    (rf'{_SCALE}\.layer_norm\.(.+)', r'neck.norms.\1.\2'),
    (rf'{_PROJECTOR}\.layer_norm\.(.+)', r'neck.norms.0.\1'),
    (rf'{_MIXER}\.0\.cv(\d)\.(conv\..+)', r'neck.mixers.\1.conv\2.\3'),
    (rf'{_MIXER}\.0\.m\.(\d)\.cv(\d)\.(conv\..+)', r'neck.mixers.\1.bottlenecks.\2.{\3-1}.\4'),
    (rf'{_MIXER}\.1\.(.+)', r'neck.norms.\1.\2'),
]
_MASKS, _OUR_MASKS = r'(?:segmentation_head\.)?', 'bbox_head.mask_branch'
_OUTER = r'(?:model|transformer)'
_SEGMENTED: Rows = [
    (r'segmentation_head\.bias', f'{_OUR_MASKS}.bias'),
    ('segmentation_bias', f'{_OUR_MASKS}.bias'),
    (rf'{_MASKS}blocks\.(\d)\.(?:dwconv|depthwise_conv)\.(.+)', rf'{_OUR_MASKS}.blocks.\1.dwconv.\2'),
    (rf'{_MASKS}blocks\.(\d)\.(?:norm|layernorm)\.(.+)', rf'{_OUR_MASKS}.blocks.\1.norm.\2'),
    (rf'{_MASKS}blocks\.(\d)\.(?:pwconv1|pointwise_conv)\.(.+)', rf'{_OUR_MASKS}.blocks.\1.pwconv.\2'),
    (rf'{_MASKS}spatial_features_proj\.(.+)', rf'{_OUR_MASKS}.map_proj.\1'),
    (rf'{_MASKS}query_features_block\.(?:norm_in|norm)\.(.+)', rf'{_OUR_MASKS}.norm.\1'),
    (rf'{_MASKS}query_features_block\.(?:layers\.0|mlp\.fc1)\.(.+)', rf'{_OUR_MASKS}.mlp.0.\1'),
    (rf'{_MASKS}query_features_block\.(?:layers\.2|mlp\.fc2)\.(.+)', rf'{_OUR_MASKS}.mlp.2.\1'),
    (rf'{_MASKS}query_features_proj\.(.+)', rf'{_OUR_MASKS}.kernel_proj.\1'),
]
_LWDETR: Rows = [
    *_VIT,
    *_MIXERS,
    (r'(?:model\.)?(?:reference_point|refpoint)_embed\.(.+)', r'reference_embedding.\1'),
    (r'(?:model\.)?query_feat\.(.+)', r'query_embedding.\1'),
    (rf'{_OUTER}\.enc_output\.(\d+)\.(.+)', r'memory_trans_fc.\1.\2'),
    (rf'{_OUTER}\.enc_output_norm\.(\d+)\.(.+)', r'memory_trans_norm.\1.\2'),
    (rf'{_OUTER}\.enc_out_class_embed\.(\d+)\.(.+)', r'bbox_head.enc_cls_branches.\1.\2'),
    (rf'{_OUTER}\.enc_out_bbox_embed\.(\d+)\.layers\.(\d)\.(.+)', r'bbox_head.enc_reg_branches.\1.{\2*2}.\3'),
    (r'class_embed\.(.+)', r'bbox_head.cls_branches.0.\1'),
    (r'bbox_embed\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.0.{\1*2}.\2'),
    (rf'{_OUTER}\.decoder\.(?:layernorm|norm)\.(.+)', r'decoder.norm.\1'),
    (rf'{_OUTER}\.decoder\.(ref_point_head\..+)', r'decoder.\1'),
    (rf'{_LAYER}\.(?:cross_attn_layer_norm|norm2)\.(.+)', rf'{_OUR_LAYER}.norms.1.\2'),
    (rf'{_LAYER}\.(?:layer_norm|norm3)\.(.+)', rf'{_OUR_LAYER}.norms.2.\2'),
    *_SELF,
]

_RELEASED_STAGE = r'backbone\.res_layers\.(\d)\.blocks\.(\d+)'
_RELEASED_CELLS = r'encoder\.encoder\.(\d)\.layers\.(\d+)'
_RELEASED: Rows = [
    *[
        (rf'backbone\.conv1\.conv1_{number + 1}\.{theirs}\.(.+)', rf'backbone.stem.{3 * number + place}.\1')
        for number in range(3)
        for place, theirs in enumerate(('conv', 'norm'))
    ],
    *[
        (rf'{_RELEASED_STAGE}\.branch2{letter}\.{theirs}\.(.+)', rf'{_OUR_STAGE}.{own}{number}.\3')
        for number, letter in enumerate('abc', 1)
        for theirs, own in (('conv', 'conv'), ('norm', 'bn'))
    ],
    # behind the pooling of a stage that halves the picture, or alone
    (rf'{_RELEASED_STAGE}\.short\.(?:conv\.)?conv\.(.+)', rf'{_OUR_STAGE}.downsample.1.\3'),
    (rf'{_RELEASED_STAGE}\.short\.(?:conv\.)?norm\.(.+)', rf'{_OUR_STAGE}.downsample.2.\3'),
    (r'(backbone\.(?:stem|stages)\..+)', r'\1'),
    *[
        row
        for part, own in (('(?:0|conv)', 'conv'), ('(?:1|norm)', 'bn'))
        for row in (
            (rf'encoder\.input_proj\.(\d)\.{part}\.(.+)', rf'neck.input_proj.\1.{own}.\2'),
            (rf'decoder\.input_proj\.(\d)\.{part}\.(.+)', rf'neck.decoder_proj.\1.{own}.\2'),
        )
    ],
    (rf'{_RELEASED_CELLS}\.self_attn\.(.+)', rf'{_OUR_CELLS}.self_attn.attn.\3'),
    (rf'{_RELEASED_CELLS}\.norm([12])\.(.+)', rf'{_OUR_CELLS}.norms.{{\3-1}}.\4'),
    (rf'{_RELEASED_CELLS}\.linear1\.(.+)', rf'{_OUR_CELLS}.ffn.layers.0.0.\3'),
    (rf'{_RELEASED_CELLS}\.linear2\.(.+)', rf'{_OUR_CELLS}.ffn.layers.1.\3'),
    *[
        row
        for theirs, own in (
            ('cv1', 'conv1'),
            (r'cv2\.0', 'csp_rep1'),
            (r'cv2\.1', 'conv2'),
            (r'cv3\.0', 'csp_rep2'),
            (r'cv3\.1', 'conv3'),
            ('cv4', 'conv4'),
        )
        for row in (
            (rf'encoder\.((?:fpn|pan)_blocks\.\d)\.{theirs}\.((?:.+\.)?)norm\.(.+)', rf'neck.\1.{own}.\2bn.\3'),
            (rf'encoder\.((?:fpn|pan)_blocks\.\d)\.{theirs}\.(.+)', rf'neck.\1.{own}.\2'),
        )
    ],
    (r'encoder\.downsample_convs\.(\d)\.0\.cv([12])\.norm\.(.+)', r'neck.downsample_convs.\1.{\2-1}.bn.\3'),
    (r'encoder\.downsample_convs\.(\d)\.0\.cv([12])\.(.+)', r'neck.downsample_convs.\1.{\2-1}.\3'),
    (rf'encoder\.{_PYRAMID}\.norm\.(.+)', r'neck.\1.bn.\2'),
    (rf'encoder\.{_PYRAMID}', r'neck.\1'),
    (r'decoder\.denoising_class_embed\.(.+)', r'dn_query_generator.label_embedding.\1'),
    (r'decoder\.query_pos_head\.(.+)', r'decoder.ref_point_head.\1'),
    (r'decoder\.enc_output\.(?:0|proj)\.(.+)', r'memory_trans_fc.\1'),
    (r'decoder\.enc_output\.(?:1|norm)\.(.+)', r'memory_trans_norm.\1'),
    (r'decoder\.enc_score_head\.(.+)', r'bbox_head.cls_branches.{0+LAYERS}.\1'),
    (r'decoder\.enc_bbox_head\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.{0+LAYERS}.{\1*2}.\2'),
    (r'decoder\.dec_score_head\.(\d)\.(.+)', r'bbox_head.cls_branches.\1.\2'),
    (r'decoder\.dec_bbox_head\.(\d)\.layers\.(\d)\.(.+)', r'bbox_head.reg_branches.\1.{\2*2}.\3'),
    (r'decoder\.pre_bbox_head\.layers\.(\d)\.(.+)', r'bbox_head.pre_bbox_head.{\1*2}.\2'),
    (r'decoder\.decoder\.(lqe_layers\..+)', r'bbox_head.\1'),
    (rf'{_LAYER}\.(gateway\..+)', rf'{_OUR_LAYER}.\2'),
    (rf'{_LAYER}\.norm2\.(.+)', rf'{_OUR_LAYER}.norms.1.\2'),
    (rf'{_LAYER}\.cross_attn\.num_points_scale', ''),
    (r'decoder\.(?:decoder\.)?(?:up|reg_scale)|decoder\.(?:anchors|valid_mask)', ''),
    *_SELF,
]
_INDICES = r'(\d\.\d\.\d)'
_RELEASED_BLOCK = r'backbone\.0\.encoder\.blocks\.(\d+)'
_RELEASED_LWDETR: Rows = [
    (r'backbone\.0\.encoder\.(pos_embed)', r'backbone.\1'),
    (r'backbone\.0\.encoder\.patch_embed\.proj\.(.+)', r'backbone.patch_embed.\1'),
    (rf'{_RELEASED_BLOCK}\.gamma_([12])', rf'{_OUR_BLOCK}.gamma\2'),
    (rf'{_RELEASED_BLOCK}\.mlp\.fc1\.(.+)', rf'{_OUR_BLOCK}.mlp.0.\2'),
    (rf'{_RELEASED_BLOCK}\.mlp\.fc2\.(.+)', rf'{_OUR_BLOCK}.mlp.2.\2'),
    (rf'{_RELEASED_BLOCK}\.((?:norm\d|attn)\..+)', rf'{_OUR_BLOCK}.\2'),
    *[
        (rf'backbone\.0\.projector\.stages_sampling\.{_INDICES}\.bn\.(.+)', rf'neck.samplers.\1.{norm}.\2')
        for norm in ('bn', 'ln')
    ],
    (rf'backbone\.0\.projector\.stages_sampling\.{_INDICES}\.(.+)', r'neck.samplers.\1.\2'),
    *_LWDETR,
]

REALTIME_TABLES: dict[str, Rows] = {
    'transformers RT-DETR': _RTDETR,
    'transformers D-FINE': _DFINE,
    'transformers DEIMv2': _DEIMV2,
    'transformers DINOv3': _dinov3('', 'backbone.'),
    'transformers LW-DETR': _LWDETR,
    'transformers RF-DETR with masks': [*_SEGMENTED, *((rf'(?:model\.)?{pattern}', name) for pattern, name in _LWDETR)],
    'the release of RT-DETR': [(rf'{_LAYER}\.norm3\.(.+)', rf'{_OUR_LAYER}.norms.2.\2'), *_RELEASED],
    'the release of D-FINE': [(rf'{_LAYER}\.norm3\.(.+)', rf'{_OUR_LAYER}.norms.1.\2'), *_RELEASED],
    'the release of LW-DETR': _RELEASED_LWDETR,
}
