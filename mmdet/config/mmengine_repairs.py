"""Repairs of mmengine: package lookup without ``pkg_resources``, options that set variables of a config, imports."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from mmdet.config.files import PREFIX, packaged_config
from mmdet.registry import stands_in_for


def repair_mmengine() -> None:
    """Let ``_base_ = 'package::...'`` find packages, and options set variables. May be called often."""
    import mmengine.config.config as module

    from mmdet.config.overrides import ClassicFile, LazyFile

    # mmengine asks pkg_resources, which setuptools 82 removed; these two names serve ``_base_ = 'pkg::...'``
    module.get_installed_path, module.is_installed = installed_path, is_installed
    module.RemoveAssignFromAST, module.ImportTransformer = ClassicFile, LazyFile
    module.import_modules_from_strings = import_custom_modules
    theirs = module.Config._get_cfg_path
    if theirs is not _base_path:
        _of_other_packages.setdefault('path', theirs)
        module.Config._get_cfg_path = staticmethod(_base_path)


_of_other_packages: dict[str, Callable[[str, str], tuple[str, str | None]]] = {}


def _base_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """Path and scope of what a config inherits from; ours is found in a checkout as in an installation."""
    if cfg_path.startswith(PREFIX):
        return str(packaged_config(cfg_path)), 'mmdet'
    return _of_other_packages['path'](cfg_path, filename)


def import_custom_modules(imports: Any, allow_failed_imports: bool = False) -> Any:
    """mmengine's, without the modules of a package that is not installed and that this one stands in for.

    Should the config use anything else of that package, then the error for its name says what is missing.
    """
    from mmengine.utils import import_modules_from_strings

    if isinstance(imports, (list, tuple)):
        imports = [name for name in imports if not (isinstance(name, str) and _has_stand_in(name))]
    elif isinstance(imports, str) and _has_stand_in(imports):
        return None
    return import_modules_from_strings(imports, allow_failed_imports)


def _has_stand_in(module: str) -> bool:
    return stands_in_for(module) and not is_installed(module.partition('.')[0])


def installed_path(package: str) -> str:
    """Folder of an installed distribution or importable package.

    Raises:
        ModuleNotFoundError: when there is none.
    """
    for name in (package, *_top_levels(package)):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return str(next(iter(spec.submodule_search_locations)))
    raise ModuleNotFoundError(f'package {package!r} is not installed', name=package)


def is_installed(package: str) -> bool:
    """Whether a distribution or an importable package of this name exists."""
    if importlib.util.find_spec(package.replace('-', '_')) is not None:
        return True
    return next(_top_levels(package), None) is not None


def _top_levels(package: str) -> Iterator[str]:
    try:
        text = importlib.metadata.distribution(package).read_text('top_level.txt')
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (text or package.replace('-', '_')).split()
