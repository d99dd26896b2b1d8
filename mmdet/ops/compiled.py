from __future__ import annotations

import functools
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


@functools.cache
def compiled_mmcv() -> ModuleType | None:
    """``mmcv.ops`` where it can be imported: in the full mmcv, not in mmcv-lite."""
    try:
        return import_module('mmcv.ops') if find_spec('mmcv._ext') else None
    except ImportError:  # built for another torch
        return None
