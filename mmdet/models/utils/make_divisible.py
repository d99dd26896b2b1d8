from mmdet.models.layers.building import make_divisible

__all__ = ['make_divisible']
