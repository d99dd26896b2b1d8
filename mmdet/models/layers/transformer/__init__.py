from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {'utils': 'AdaptivePadding MLP PatchEmbed PatchMerging inverse_sigmoid nchw_to_nlc nlc_to_nchw'},
)
