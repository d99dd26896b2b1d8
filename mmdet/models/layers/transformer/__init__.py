from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'attention': 'MultiheadAttention',
        'conditional_detr_layers': 'ConditionalDetrTransformerDecoder ConditionalDetrTransformerDecoderLayer',
        'dab_detr_layers': 'DABDetrTransformerDecoder DABDetrTransformerDecoderLayer DABDetrTransformerEncoder',
        'ddq_detr_layers': 'DDQTransformerDecoder',
        'deformable_detr_layers': (
            'DeformableDetrTransformerDecoder DeformableDetrTransformerDecoderLayer DeformableDetrTransformerEncoder '
            'DeformableDetrTransformerEncoderLayer'
        ),
        'detr_layers': (
            'DetrTransformerDecoder DetrTransformerDecoderLayer DetrTransformerEncoder DetrTransformerEncoderLayer'
        ),
        'deimv2_layers': 'DEIMv2TransformerDecoder DEIMv2TransformerDecoderLayer',
        'dfine_layers': 'DFINETransformerDecoder DFINETransformerDecoderLayer LocationQuality',
        'dino_layers': 'CdnQueryGenerator DinoTransformerDecoder',
        'grounding_dino_layers': (
            'GroundingDinoTransformerDecoder GroundingDinoTransformerDecoderLayer GroundingDinoTransformerEncoder'
        ),
        'lwdetr_layers': 'GroupedAttention LWDETRTransformerDecoder LWDETRTransformerDecoderLayer',
        'rt_detr_layers': 'RTDETRTransformerDecoder RTDETRTransformerDecoderLayer SampledAttention',
        'mask2former_layers': (
            'Mask2FormerTransformerDecoder Mask2FormerTransformerDecoderLayer Mask2FormerTransformerEncoder'
        ),
        'utils': (
            'AdaptivePadding ConditionalAttention DynamicConv MLP PatchEmbed PatchMerging coordinate_to_encoding '
            'inverse_sigmoid nchw_to_nlc nlc_to_nchw'
        ),
    },
)
