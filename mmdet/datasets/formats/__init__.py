from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'collection': 'Collection PictureIndex clean_split',
        'reading': 'READERS detect_format read_data',
        'writing': 'WRITERS write_data',
        'splitting': 'split_pictures with_validation',
    },
)
