"""Repairs of mmengine: package lookup without ``pkg_resources``, options that set variables of a config."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator


def repair_mmengine() -> None:
    """Let ``_base_ = 'package::...'`` find packages, and options set variables. May be called often."""
    import mmengine.config.config as module

    from mmdet.config.overrides import ClassicFile, LazyFile

    # mmengine asks pkg_resources, which setuptools 82 removed; these two names serve ``_base_ = 'pkg::...'``
    module.get_installed_path, module.is_installed = installed_path, is_installed
    module.RemoveAssignFromAST, module.ImportTransformer = ClassicFile, LazyFile


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
