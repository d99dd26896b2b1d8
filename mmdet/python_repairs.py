"""What newer Pythons no longer have and mmengine and mmcv still ask for.

``pkgutil.find_loader`` went with Python 3.14. The two modules that call it, to see whether a compiled mmcv is there,
are given one of their own; the standard library stays as it is.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
from types import SimpleNamespace
from typing import Any

CALLERS = ('mmengine.utils.dl_utils.misc', 'mmcv.utils.ext_loader')


def find_loader(name: str) -> Any:
    """The loader of a module, None where there is no such module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.loader


def supply_find_loader() -> None:
    """Give it to those of :data:`CALLERS` that are imported."""
    if hasattr(pkgutil, 'find_loader'):
        return
    for name in CALLERS:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, 'pkgutil'):
            module.pkgutil = SimpleNamespace(find_loader=find_loader)  # type: ignore[attr-defined]
