"""A warm-up that grows with the square of the step."""

from __future__ import annotations

from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from mmdet.errors import UserValueError
from mmdet.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class QuadraticWarmupParamScheduler(_ParamScheduler):
    r"""Raises a parameter from 0 to its base value: after step t of T it is :math:`base \cdot (t / T)^2`.

    Args:
        optimizer: The optimizer or its wrapper.
        param_name: Key of the parameter groups, such as 'lr'.
        begin: First step.
        end: Step at which the base value is reached.
        last_step: Step to resume from.
        by_epoch: Steps are epochs rather than iterations.
        verbose: Print each value.
    """

    def __init__(
        self,
        optimizer: Any,
        param_name: str,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if end >= INF:
            raise UserValueError('a quadratic warm-up needs its end: the step at which it is over')
        self.total_iters = end - begin
        super().__init__(
            optimizer, param_name, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose
        )

    @classmethod
    def build_iter_from_epoch(
        cls,
        *args: Any,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        epoch_length: int | None = None,
        **kwargs: Any,
    ) -> QuadraticWarmupParamScheduler:
        """The same warm-up, given in epochs and counted in iterations."""
        if not by_epoch:
            raise UserValueError('only settings given in epochs can be converted to iterations')
        if not epoch_length or epoch_length < 0:
            raise UserValueError(f'epoch_length must be a positive number of iterations, not {epoch_length}')
        end = end if end == INF else int(end * epoch_length)
        kwargs.update(begin=int(begin * epoch_length), end=end, by_epoch=False)
        return cls(*args, **kwargs)

    def _get_value(self) -> list[float]:
        # (t + 1)^2 - t^2 = 2t + 1: the increment keeps changes that other schedulers make to the group
        step = (2 * self.last_step + 1) / self.total_iters**2
        if self.last_step == 0:
            return [base * step for base in self.base_values]
        groups = self.optimizer.param_groups
        return [g[self.param_name] + base * step for base, g in zip(self.base_values, groups, strict=True)]


@PARAM_SCHEDULERS.register_module()
class QuadraticWarmupLR(LRSchedulerMixin, QuadraticWarmupParamScheduler):
    """Quadratic warm-up of the learning rate."""


@PARAM_SCHEDULERS.register_module()
class QuadraticWarmupMomentum(MomentumSchedulerMixin, QuadraticWarmupParamScheduler):
    """Quadratic warm-up of the momentum."""
