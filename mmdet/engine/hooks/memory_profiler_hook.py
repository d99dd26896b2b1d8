"""Memory of the machine and of the process in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from mmdet.errors import UserRuntimeError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class MemoryProfilerHook(Hook):
    """Logs free, used and swapped memory of the machine and the resident memory of this process, in MB.

    Args:
        interval: Iterations between entries.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        if not Path('/proc/meminfo').is_file():
            raise UserRuntimeError('MemoryProfilerHook reads /proc/meminfo, which only Linux has')

    def _record_memory_information(self, runner: Any) -> None:
        machine, process = _fields('/proc/meminfo'), _fields('/proc/self/status')
        available = machine['MemAvailable']
        swap = machine['SwapTotal'] - machine['SwapFree']
        runner.logger.info(
            f'Memory information available_memory: {available} MB, used_memory: {machine["MemTotal"] - available} MB, '
            f'memory_utilization: {100 * (1 - available / machine["MemTotal"]):.1f} %, used_swap_memory: {swap} MB, '
            f'current_process_memory: {process["VmRSS"]} MB'
        )

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.every_n_inner_iters(batch_idx, self.interval):
            self._record_memory_information(runner)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.every_n_inner_iters(batch_idx, self.interval):
            self._record_memory_information(runner)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.every_n_inner_iters(batch_idx, self.interval):
            self._record_memory_information(runner)


def _fields(path: str) -> dict[str, int]:
    """Fields of a /proc file that are given in kB, in MB."""
    fields = {}
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(':')
        if value.strip().endswith('kB'):
            fields[name] = int(value.split()[0]) // 1024
    return fields
