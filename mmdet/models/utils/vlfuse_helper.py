from mmdet.models.layers.vision_language import (
    BertEncoderLayer,
    BiAttentionBlock,
    BiMultiHeadAttention,
    SingleScaleBiAttentionBlock,
    VLFuse,
    clamp_values,
    permute_and_flatten,
)

__all__ = [
    'BertEncoderLayer',
    'BiAttentionBlock',
    'BiMultiHeadAttention',
    'SingleScaleBiAttentionBlock',
    'VLFuse',
    'clamp_values',
    'permute_and_flatten',
]
