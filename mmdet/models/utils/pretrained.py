"""``init_cfg=dict(type='Pretrained', ...)`` through the safe checkpoint reader."""

from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.model.weight_init import update_init_info
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmdet.registry import WEIGHT_INITIALIZERS
from mmdet.utils.checkpoint import read_checkpoint, register_loaders
from mmdet.utils.key_maps import translate_state_dict


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class Pretrained(PretrainedInit):
    """mmengine's initialiser; the file that it names cannot run code, see :mod:`mmdet.utils.checkpoint`.

    Without a ``prefix``, names of other libraries are translated, of whole detectors too.
    """

    def __call__(self, module: nn.Module) -> Any:
        if self.prefix is not None:
            register_loaders()
            return super().__call__(module)
        checkpoint = read_checkpoint(self.checkpoint, self.map_location)
        given = checkpoint.get('state_dict', checkpoint)
        weights, library = translate_state_dict(
            {name.removeprefix('module.'): value for name, value in given.items()}, module.state_dict()
        )
        weights._metadata = getattr(given, '_metadata', {})  # type: ignore[attr-defined]
        names = f' (names translated from {library})' if library else ''
        print_log(f'load model from: {self.checkpoint}{names}', logger='current')
        load_state_dict(module, weights, strict=False, logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
