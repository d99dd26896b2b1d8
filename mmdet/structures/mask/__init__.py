from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'structures': 'BaseInstanceMasks BitmapMasks PolygonMasks bitmap_to_polygon polygon_to_bitmap',
        'windows': 'MaskWindows',
        'mask_target': 'mask_target',
        'utils': 'INSTANCE_OFFSET bitmaps_of encode_mask_results mask2bbox split_combined_polys',
    },
)
