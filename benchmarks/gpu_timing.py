"""Time on a GPU, for the scripts beside."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def median_ms(function: Callable[[], Any], rounds: int = 12) -> float:
    """Median of the milliseconds that ``function`` takes until the device is idle again, two warm-ups aside."""
    times = []
    for turn in range(rounds + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        if turn > 1:
            times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1000, 3)
