from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import torch

from mmdet.errors import UserValueError


def cast_tensor_type(inputs: Any, src_type: Any = None, dst_type: Any = None) -> Any:
    """Tensors of ``src_type`` (any by default), alone or in containers, with another data type or on another device.

    Args:
        src_type, dst_type: A ``torch.dtype`` or a ``torch.device``.
    """
    if dst_type is None:
        raise UserValueError('dst_type must be a torch.dtype or a torch.device')
    if isinstance(inputs, torch.Tensor):
        own = inputs.device if isinstance(dst_type, torch.device) else inputs.dtype
        return inputs.to(dst_type) if src_type is None or own == src_type else inputs
    if isinstance(inputs, Mapping):
        return type(inputs)({key: cast_tensor_type(value, src_type, dst_type) for key, value in inputs.items()})
    if isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes)):
        return type(inputs)(cast_tensor_type(item, src_type, dst_type) for item in inputs)
    return inputs


class AvoidOOM:
    """Decorate a function so that it is tried a second time, with the caching allocator emptied, when a GPU is full.

    What needs more memory than there is must work in smaller pieces; moving the work to the CPU only hides that, so
    ``to_cpu`` and ``test``, which other versions knew, are accepted and ignored.
    """

    def __init__(self, to_cpu: bool = True, test: bool = False) -> None:
        self.to_cpu, self.test = to_cpu, test

    def retry_if_cuda_oom(self, func: Callable) -> Callable:
        """``func``, called a second time where the GPU's memory ran out, its cache emptied."""

        @wraps(func)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return func(*args, **kwargs)
            except torch.cuda.OutOfMemoryError:
                pass  # leaving the handler releases the tensors that the traceback holds
            torch.cuda.empty_cache()
            return func(*args, **kwargs)

        return wrapped


AvoidCUDAOOM = AvoidOOM()
