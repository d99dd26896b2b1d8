"""Save and leave when the machine is about to be taken away."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook

from mmdet.engine.hooks.checkpoint_hook import CheckpointHook, at_optimizer_step
from mmdet.engine.rescue import WAITING
from mmdet.registry import HOOKS


class TrainingInterrupted(SystemExit):
    """Training was told to stop and has saved. Its ``code`` is 128 + the number of the signal."""


@HOOKS.register_module()
class SignalHook(Hook):
    """On SIGTERM or SIGUSR1 (Slurm's warning before a time limit) saves after the iteration and ends the process.

    The exit code, 143 or 138, tells a job script to queue the job again; ``--resume`` continues it. A signal that
    reaches any rank stops all of them after the same iteration, which is agreed on every ``interval`` iterations.

    Args:
        signals: Names of the signals.
        interval: Iterations between two looks at other ranks; 1 process looks at every iteration.
    """

    priority = 'LOWEST'

    def __init__(self, signals: tuple[str, ...] = ('SIGTERM', 'SIGUSR1'), interval: int = 10) -> None:
        self.signals = [getattr(signal, name) for name in signals]
        self.interval = interval
        self.received = 0
        self._former: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._former[number] = signal.signal(number, self._note)

        self._tell_launcher(runner, '')

    @staticmethod
    def _tell_launcher(runner: Any, text: str) -> None:
        """Whether this rank can save when it is told to end, and has, for the exit code of ``tools/launch.py``."""
        folder = os.environ.get('MMDET_EXIT_CODES')
        if folder:
            Path(folder, str(runner.rank)).write_text(text)

    def _note(self, number: int, frame: Any) -> None:
        self.received = number

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        number = self.received
        if runner.world_size > 1:
            if (runner.iter + 1) % self.interval:
                return
            runner.phase = WAITING
            shared = torch.tensor(number, device='cuda' if torch.cuda.is_available() else 'cpu')
            all_reduce(shared, op='max')
            number = int(shared)
        if number and at_optimizer_step(runner):
            self._save_and_leave(runner, number)

    def _save_and_leave(self, runner: Any, number: int) -> None:
        hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if hook is not None:
            name = hook.save_interim(runner)
        else:
            name = f'iter_{runner.iter + 1}.pth'
            if hasattr(runner, 'gather_buffers'):
                runner.gather_buffers()
            meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
            runner.save_checkpoint(runner.work_dir, name, meta=meta, by_epoch=False)
        runner.logger.warning(f'{signal.Signals(number).name}: saved {name}; --resume continues from it.')
        self._tell_launcher(runner, str(128 + number))
        barrier()  # srun and torchrun end the other ranks when one has ended, and rank 0 may still be writing
        self.restore()
        raise TrainingInterrupted(128 + number)

    def after_train(self, runner: Any) -> None:
        self._tell_launcher(runner, '0')
        self.restore()

    def restore(self) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()
