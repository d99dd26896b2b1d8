from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'bbox_nms': 'fast_nms multiclass_nms',
        'brick_wrappers': 'AdaptiveAvgPool2d FrozenBN FrozenBatchNorm2d SiLU adaptive_avg_pool2d',
        'building': (
            'build_conv_layer build_linear_layer build_norm_layer build_plugin_layer resolve_layer run_checkpointed'
        ),
        'conv_upsample': 'ConvUpsample',
        'csp_layer': 'CSPLayer',
        'dropblock': 'DropBlock',
        'ema': 'ExpMomentumEMA ExponentialMovingAverage',
        'inverted_residual': 'InvertedResidual',
        'layer_norm': 'LN2d',
        'matrix_nms': 'mask_matrix_nms',
        'merge_cells': 'BaseMergeCell ConcatCell GlobalPoolingCell SumCell',
        'mlp': 'FFN MLP',
        'msdeformattn_pixel_decoder': 'MSDeformAttnPixelDecoder',
        'normed_predictor': 'Linear NormedConv2d NormedLinear',
        'patch': 'AdaptivePadding PatchEmbed PatchMerging nchw_to_nlc nlc_to_nchw',
        'pixel_decoder': 'PixelDecoder TransformerEncoderPixelDecoder',
        'positional_encoding': 'LearnedPositionalEncoding SinePositionalEncoding SinePositionalEncoding3D',
        'res_layer': 'ResLayer SimplifiedBasicBlock',
        'saconv': 'SAC SAConv2d',
        'se_layer': 'ChannelAttention DyReLU SELayer',
        'vision_language': (
            'BertEncoderLayer BiAttentionBlock BiMultiHeadAttention SingleScaleBiAttentionBlock VLFuse clamp_values '
            'permute_and_flatten'
        ),
        'transformer': (
            'CdnQueryGenerator ConditionalAttention ConditionalDetrTransformerDecoder '
            'ConditionalDetrTransformerDecoderLayer '
            'DABDetrTransformerDecoder DABDetrTransformerDecoderLayer DABDetrTransformerEncoder DDQTransformerDecoder '
            'DeformableDetrTransformerDecoder DeformableDetrTransformerDecoderLayer DeformableDetrTransformerEncoder '
            'DeformableDetrTransformerEncoderLayer DetrTransformerDecoder DetrTransformerDecoderLayer '
            'DetrTransformerEncoder DetrTransformerEncoderLayer DinoTransformerDecoder DynamicConv '
            'GroundingDinoTransformerDecoder GroundingDinoTransformerDecoderLayer GroundingDinoTransformerEncoder '
            'Mask2FormerTransformerDecoder '
            'Mask2FormerTransformerDecoderLayer Mask2FormerTransformerEncoder coordinate_to_encoding inverse_sigmoid'
        ),
    },
)
