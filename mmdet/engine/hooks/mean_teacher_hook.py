"""The teacher of semi-supervised training."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.errors import UserValueError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class MeanTeacherHook(Hook):
    """The teacher's weights follow the student's as a moving average (arXiv:1703.01780).

    ``teacher = (1 - momentum) * teacher + momentum * student``; at iteration 0 the teacher starts as a copy.

    Args:
        interval: Iterations between updates.
        skip_buffer: Leave the buffers, such as those of batch norm, to the teacher's own forward passes.
    """

    def __init__(self, momentum: float = 0.001, interval: int = 1, skip_buffer: bool = True) -> None:
        if not 0 < momentum < 1:
            raise UserValueError(f'momentum must lie between 0 and 1, not {momentum}')
        self.momentum, self.interval, self.skip_buffers = momentum, interval, skip_buffer

    def before_train(self, runner: Any) -> None:
        model = _unwrap(runner.model)
        for part in ('teacher', 'student'):
            if not hasattr(model, part):
                raise UserValueError(
                    f'MeanTeacherHook needs a model with a {part}, which {type(model).__name__} has not'
                )
        if runner.iter == 0:
            self.momentum_update(model, 1)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if (runner.iter + 1) % self.interval == 0:
            self.momentum_update(_unwrap(runner.model), self.momentum)

    def momentum_update(self, model: Any, momentum: float) -> None:
        """One step of the average, for all floating point tensors at once."""
        if self.skip_buffers:
            student, teacher = dict(model.student.named_parameters()), dict(model.teacher.named_parameters())
        else:
            student, teacher = model.student.state_dict(), model.teacher.state_dict()
        names = [name for name, value in teacher.items() if value.dtype.is_floating_point]
        with torch.no_grad():
            targets = [teacher[name].detach() for name in names]
            torch._foreach_mul_(targets, 1 - momentum)
            torch._foreach_add_(targets, [student[name].detach() for name in names], alpha=momentum)


def _unwrap(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
