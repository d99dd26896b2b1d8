"""What the modules of Triton's kernels share; they can be imported without Triton, and then have no kernels."""

from __future__ import annotations

from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

__all__ = ['jit', 'tl', 'triton']


def jit(function: Any, **options: Any) -> Any:
    """``triton.jit(**options)(function)``."""
    return triton.jit(**options)(function) if triton is not None else None
