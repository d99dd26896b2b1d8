from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'report': 'KINDS Finding Report',
        'values': 'as_box as_flag as_id as_number as_side',
        'faults': 'named_faults',
        'coco_file': 'CocoCheck MissingKeyError parse_json read_json',
    },
)
