from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'quadratic_warmup': 'QuadraticWarmupParamScheduler QuadraticWarmupLR QuadraticWarmupMomentum',
    },
)
