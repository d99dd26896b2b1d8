from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'layer_decay_optimizer_constructor': 'LearningRateDecayOptimizerConstructor',
        'optim_wrapper': 'OptimWrapper AmpOptimWrapper',
    },
)
