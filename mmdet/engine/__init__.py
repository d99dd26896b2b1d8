from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'hooks': '',
        'runner': '',
        'optimizers': '',
        'schedulers': '',
        'arguments': 'DictAction',
        'config': 'load_config parse_stored_config',
        'checkpoint': 'read_checkpoint save_checkpoint load_weights',
    },
)
