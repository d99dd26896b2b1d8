"""A registry-based, modular object-detection toolbox for today's PyTorch."""

from mmdet.version import __version__, version_info

__all__ = ['__version__', 'version_info']
