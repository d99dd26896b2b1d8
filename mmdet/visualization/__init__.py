from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'local_visualizer': 'DetLocalVisualizer',
        'pictures': 'LoadedPictures',
        'palette': 'get_palette jitter_color palette_val',
        'sheet': 'draw_sheet',
    },
)
