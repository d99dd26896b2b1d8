from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


class AvoidOOM:
    """Decorate a function so that it is tried a second time, with the caching allocator emptied, when a GPU is full.

    What needs more memory than there is must work in smaller pieces; moving the work to the CPU only hides that, so
    ``to_cpu`` and ``test``, which other versions knew, are accepted and ignored.
    """

    def __init__(self, to_cpu: bool = True, test: bool = False) -> None:
        self.to_cpu, self.test = to_cpu, test

    def retry_if_cuda_oom(self, func: Callable) -> Callable:
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
