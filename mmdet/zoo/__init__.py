from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {'manifest': 'Entry NoWeightsError entries search weights_of', 'places': 'cache_folder cached_file'}
)
