"""``init_cfg=dict(type='Pretrained', ...)`` through the safe checkpoint reader."""

from typing import Any

from mmengine.model import PretrainedInit
from torch import nn

from mmdet.registry import WEIGHT_INITIALIZERS
from mmdet.utils.checkpoint import register_loaders


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class Pretrained(PretrainedInit):
    """mmengine's initialiser; the file that it names cannot run code, see :mod:`mmdet.utils.checkpoint`."""

    def __call__(self, module: nn.Module) -> Any:
        register_loaders()
        return super().__call__(module)
