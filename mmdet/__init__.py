"""A registry-based, modular object-detection toolbox for today's PyTorch."""

from typing import Any

from mmdet.installation import check as _check_installation
from mmdet.lazy import AfterImport as _AfterImport
from mmdet.names_3x import install_absent_modules as _install_absent_modules
from mmdet.old_paths import install as _install_old_paths
from mmdet.version import __version__, version_info

_check_installation()
_install_old_paths()
_install_absent_modules()
# Files are read safely in whatever order mmengine and this package are imported
_AfterImport(
    {
        'mmengine.fileio': 'mmdet.utils.downloads:register_http',
        'mmengine.fileio.handlers': 'mmdet.config.safe_yaml:register_safe_yaml',
        'mmengine.runner.checkpoint': 'mmdet.utils.checkpoint:register_loaders',
        'mmengine.utils.dl_utils.misc': 'mmdet.python_repairs:supply_find_loader',
        'mmcv.utils.ext_loader': 'mmdet.python_repairs:supply_find_loader',
    }
).install()

__all__ = ['Detector', '__version__', 'digit_version', 'version_info']


def __getattr__(name: str) -> Any:
    if name == 'digit_version':
        from mmengine.utils import digit_version

        return digit_version
    if name == 'Detector':
        from importlib import import_module

        return import_module('mmdet.apis').Detector
    raise AttributeError(f"module 'mmdet' has no attribute {name!r}")
