from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.utils import apply_to

from mmdet.utils import checkpoint as checkpoints
from mmdet.utils.resumable import newest_readable


class ResumeState:
    """What continuing a run takes beyond mmengine's own: which checkpoint, and the state that mmengine leaves out.

    Args:
        work_dir: Folder whose newest readable checkpoint is resumed when ``resume`` is set and ``load_from`` is not.

    Attributes:
        path: The checkpoint to resume, or None; decided once by :meth:`decide`.
        notes: What there is to say about the choice.
        gradients: As read: by parameter, of an accumulation that has not reached its step.
        buffers_of_ranks: As read: for each rank the buffers, such as batch norm statistics, of each of
            :func:`buffer_owners`.
        running: As read: by module, what it adapts while it trains and keeps out of its weights.
        read_meta: As read: ``meta``, where the place in the data is.
        gathered: The buffers of all ranks for the next save.
    """

    def __init__(self, work_dir: str | Path, resume: bool, load_from: str | None) -> None:
        self.work_dir, self.resume, self.load_from = Path(work_dir), resume, load_from
        self.path: str | None = None
        self.notes: list[str] = []
        self.gradients: dict[str, torch.Tensor] = {}
        self.buffers_of_ranks: list[list[dict[str, torch.Tensor]]] = []
        self.running: dict[str, dict] = {}
        self.read_meta: dict = {}
        self.gathered: list[list[dict[str, torch.Tensor]]] = []
        self._decided = False
        self._checkpoint: dict | None = None  # read, and not yet taken

    # ----------------------------------------------------------------------------------------------------------------
    # Which checkpoint
    def decide(self) -> None:
        """Choose the checkpoint, on rank 0 for all."""
        if self._decided:
            return
        chosen: list = [None]
        if is_main_process():
            try:
                chosen = [self._find()]
            except checkpoints.UnreadableCheckpointError as error:
                chosen = [str(error)]
        broadcast_object_list(chosen)
        if isinstance(chosen[0], str):
            raise checkpoints.UnreadableCheckpointError(chosen[0])
        self.path, self.notes = chosen[0]
        self._decided = True

    def _find(self) -> tuple[str | None, list[str]]:
        if not self.resume:
            return None, []
        if self.load_from is not None:
            return str(self.load_from), []
        path, self._checkpoint, notes = newest_readable(self.work_dir)
        if path is None:
            notes.append(f'Nothing to resume in {self.work_dir}: training starts from the beginning.')
        return (None if path is None else str(path)), notes

    def meta(self) -> dict:
        """``meta`` of the checkpoint that is resumed; empty where none is."""
        return {} if self.path is None else self.peek(self.path).get('meta', {})

    def peek(self, filename: str) -> dict:
        """The content of the file to resume, which is read once."""
        if str(filename) != self.path:
            self.path, self._checkpoint = str(filename), None
        if self._checkpoint is None:
            self._checkpoint = checkpoints.read_checkpoint(filename)
        return self._checkpoint

    def take(self, filename: str) -> dict | None:
        """The content of a file that was read already; it is given away once."""
        if str(filename) != self.path:
            return None
        checkpoint, self._checkpoint = self._checkpoint, None
        return checkpoint

    def release(self) -> None:
        """Forget what was read and not used."""
        self._checkpoint = None
        self.read_from({})

    # ----------------------------------------------------------------------------------------------------------------
    # What mmengine leaves out
    def read_from(self, checkpoint: dict) -> None:
        """Take the entries that :meth:`write_to` made out of a checkpoint."""
        self.gradients = checkpoint.pop('gradients', {})
        self.buffers_of_ranks = checkpoint.pop('buffers_of_ranks', [])
        self.running = checkpoint.pop('running_state', {})
        self.read_meta = checkpoint.get('meta', {})

    def restore(self, runner: Any) -> None:
        """Give a runner that has loaded its weights what was read, and forget it."""
        model = bare_model(runner)
        if len(self.buffers_of_ranks) == runner.world_size:  # else all start from the buffers of rank 0
            for module, saved in zip(buffer_owners(runner), self.buffers_of_ranks[runner.rank], strict=False):
                for name, buffer in module.named_buffers():
                    if name in saved:
                        buffer.copy_(saved[name])
        for name, module in model.named_modules():
            if name in self.running:
                module.load_running_state(self.running[name])
        for name, parameter in model.named_parameters():
            if name in self.gradients:
                parameter.grad = self.gradients[name].to(parameter)
        self.read_from({})

    def gather_buffers(self, runner: Any) -> None:
        """Bring what differs between ranks to rank 0 for the next :meth:`write_to`; a collective call."""
        if runner.world_size > 1:
            own = [to_cpu(dict(module.named_buffers())) for module in buffer_owners(runner)]
            self.gathered = all_gather_object(own)

    def write_to(self, checkpoint: dict, runner: Any, with_gradients: bool) -> None:
        """Add the state of a runner to a checkpoint, with the buffers that :meth:`gather_buffers` brought."""
        model = bare_model(runner)
        if with_gradients:
            gradients = open_gradients(runner, model)
            if gradients:
                checkpoint['gradients'] = gradients
        if self.gathered:
            checkpoint['buffers_of_ranks'], self.gathered = self.gathered, []
        running = {name: m.running_state() for name, m in model.named_modules() if hasattr(m, 'running_state')}
        if running:
            checkpoint['running_state'] = to_cpu(running)


def bare_model(runner: Any) -> torch.nn.Module:
    """The model of a runner without what wraps it for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def buffer_owners(runner: Any) -> list[torch.nn.Module]:
    """The model and its averaged copies."""
    return [bare_model(runner), *(hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))]


def open_gradients(runner: Any, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients of an accumulation that has not reached its step; those of other ranks are not known here."""
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, '_accumulative_counts', 1)
    if counts == 1 or wrapper._inner_count % counts == 0 or runner.distributed:
        return {}
    return {name: to_cpu(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def to_cpu(value: Any) -> Any:
    """A nested value with its tensors on the CPU."""
    return apply_to(value, lambda x: hasattr(x, 'cpu'), lambda x: x.cpu())
