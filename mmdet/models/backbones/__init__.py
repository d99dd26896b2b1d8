from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'convnext': 'ConvNeXt',
        'csp_darknet': 'CSPDarknet',
        'cspnext': 'CSPNeXt',
        'darknet': 'Darknet',
        'detectors_resnet': 'DetectoRS_ResNeXt DetectoRS_ResNet',
        'efficientnet': 'EfficientNet',
        'hgnetv2': 'HGNetV2',
        'hourglass': 'HourglassNet',
        'hrnet': 'HRNet',
        'mobilenet_v2': 'MobileNetV2',
        'presnet': 'PResNet',
        'pvt': 'PyramidVisionTransformer PyramidVisionTransformerV2',
        'regnet': 'RegNet',
        'res2net': 'Res2Net',
        'resnest': 'ResNeSt',
        'resnet': 'ResNet ResNetV1d',
        'resnext': 'ResNeXt',
        'ssd_vgg': 'SSDVGG',
        'swin': 'SwinTransformer',
        'timm_backbone': 'TIMMBackbone',
        'trident_resnet': 'TridentResNet',
        'vit': 'DINOv2 WindowedViT',
    },
)
