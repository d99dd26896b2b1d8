from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'anchor_head': 'AnchorHead',
        'base_dense_head': 'BaseDenseHead',
        'retina_head': 'RetinaHead RetinaSepBNHead',
    },
)
