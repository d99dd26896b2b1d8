from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'bfp': 'BFP',
        'channel_mapper': 'ChannelMapper',
        'dilated_encoder': 'DilatedEncoder',
        'fpn': 'FPN',
        'hrfpn': 'HRFPN',
        'pafpn': 'PAFPN',
        'ssd_neck': 'SSDNeck',
        'ssh': 'SSH',
    },
)
