from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'building': (
            'build_conv_layer build_linear_layer build_norm_layer build_plugin_layer resolve_layer run_checkpointed'
        ),
        'ema': 'ExpMomentumEMA ExponentialMovingAverage',
        'inverted_residual': 'InvertedResidual',
        'mlp': 'FFN MLP',
        'patch': 'AdaptivePadding PatchEmbed PatchMerging nchw_to_nlc nlc_to_nchw',
        'res_layer': 'ResLayer SimplifiedBasicBlock',
        'se_layer': 'ChannelAttention DyReLU SELayer',
    },
)
