"""Does the model have as many classes as the data?"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmdet.datasets.walk import classes_of
from mmdet.errors import UserValueError
from mmdet.registry import HOOKS


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Compares ``num_classes`` of the heads with the classes of each data set inside, before the first iteration.

    Data sets that give the names of their classes to the model may have any number.

    Raises:
        ValueError: naming the head, both numbers and the classes.
    """

    def _check_head(self, runner: Any, mode: str) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for dataset, classes in classes_of(getattr(runner, f'{mode}_dataloader').dataset):
            kind = type(dataset).__name__
            if classes is None:
                runner.logger.warning(
                    f'metainfo of the {mode} dataset ({kind}) has no classes, so nothing says whether '
                    'num_classes of the heads is right'
                )
                continue
            if isinstance(classes, str):
                raise UserValueError(
                    f'metainfo.classes of the {mode} dataset is the string {classes!r}: write a tuple, with its comma: '
                    f'({classes!r},)'
                )
            if getattr(dataset, 'return_classes', False):
                continue
            for name, module in model.named_modules():
                count = getattr(module, 'num_classes', None)
                if not isinstance(count, int) or name.endswith('rpn_head') or _counts_something_else(name, module):
                    continue
                if count != len(classes):
                    raise UserValueError(
                        f'{name} ({type(module).__name__}) has num_classes={count}, but the {mode} dataset has '
                        f'{len(classes)} classes: {", ".join(map(str, classes[:10]))}'
                        f'{", ..." if len(classes) > 10 else ""}'
                    )

    def before_train_epoch(self, runner: Any) -> None:
        self._check_head(runner, 'train')

    def before_val_epoch(self, runner: Any) -> None:
        self._check_head(runner, 'val')


def _counts_something_else(name: str, module: Any) -> bool:
    """Classifier backbones, semantic branches (stuff classes) and query decoders (things and stuff)."""
    kind = type(module).__name__
    return (
        name == 'backbone'
        or name.startswith('backbone.')
        or 'Semantic' in kind
        or 'Panoptic' in kind
        or 'Fusion' in kind
    )
