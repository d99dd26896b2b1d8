from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'building': 'build_evaluator',
        'multi_datasets_evaluator': 'MultiDatasetsEvaluator',
    },
)
