"""Plain functions in the place of a hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class FunctionHook(Hook):
    """Calls functions at moments of a run: ``FunctionHook(after_val_epoch=lambda runner, metrics: print(metrics))``.

    Args:
        functions: By the name of a method of :class:`mmengine.hooks.Hook`, such as ``before_train``,
            ``after_train_iter`` or ``after_val_epoch``: what it is called with is what that method gets.
    """

    def __init__(self, **functions: Callable[..., Any]) -> None:
        moments = [name for name in dir(Hook) if name.startswith(('before_', 'after_'))]
        for name, function in functions.items():
            if name not in moments:
                raise UserValueError(f'there is no moment {name!r} of a run; there are {", ".join(moments)}')
            if not callable(function):
                raise UserTypeError(f'{name} must be a function, not {type(function).__name__}')
            setattr(self, name, function)
