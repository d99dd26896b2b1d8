"""A registry-based, modular object-detection toolbox for today's PyTorch."""

from mmdet.installation import check as _check_installation
from mmdet.version import __version__, version_info

_check_installation()

__all__ = ['__version__', 'version_info']
