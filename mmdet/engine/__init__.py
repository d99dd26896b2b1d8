from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'hooks': '',
        'runner': '',
        'optimizers': '',
        'schedulers': '',
        'weights': 'LoadReport load_weights state_dict_of',
        'deployment': 'deploy',
        'acceleration': 'accelerate_training fold_batch_norms optimize_for_inference',
    },
)
