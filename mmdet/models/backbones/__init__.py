from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'hrnet': 'HRNet',
        'mobilenet_v2': 'MobileNetV2',
        'regnet': 'RegNet',
        'res2net': 'Res2Net',
        'resnet': 'ResNet ResNetV1d',
        'resnext': 'ResNeXt',
        'ssd_vgg': 'SSDVGG',
        'swin': 'SwinTransformer',
    },
)
