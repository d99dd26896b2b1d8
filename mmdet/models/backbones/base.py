"""What backbones share: stages that stay as they are while training, outputs by index, and starting weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.errors import UserValueError
from mmdet.utils.key_maps import translate_state_dict


def freeze(modules: Iterable[nn.Module]) -> None:
    """Leave parameters and statistics as they are, until the next call of ``train``."""
    for module in modules:
        module.eval().requires_grad_(False)


def height_and_width(size: int | Sequence[int], name: str) -> tuple[int, int]:
    """A size given as one number, ``(n,)`` or (height, width), as the pair."""
    pair = (size,) if isinstance(size, int) else tuple(size)
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2:
        raise UserValueError(f'{name} must be one number or (height, width), got {size!r}')
    return pair[0], pair[1]


class Backbone(BaseModule):
    """A backbone whose first stages, or the statistics of whose norm layers, may be frozen."""

    norm_eval = False
    out_indices: tuple[int, ...]

    def _freeze_stages(self) -> None:
        """Freeze what is to stay as it is; called whenever the mode changes."""

    def train(self, mode: bool = True) -> Backbone:
        """Frozen stages stay in evaluation mode, and with ``norm_eval`` all batch norms do."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def run_stages(self, x: Tensor, stages: Iterable[nn.Module]) -> tuple[Tensor, ...]:
        """Put ``x`` through one stage after another; the outputs of ``out_indices``."""
        outs = []
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


class TransformerBackbone(Backbone):
    """A backbone that reads the weights of an official release by itself, and else starts from small random ones."""

    def init_weights(self) -> None:
        if self.init_cfg is None:
            MMLogger.get_current_instance().info(
                f'{type(self).__name__} starts from random weights: no init_cfg is given'
            )
            self._init_from_scratch()
            return
        if 'checkpoint' not in self.init_cfg:
            raise UserValueError(
                f"{type(self).__name__} takes init_cfg=dict(type='Pretrained', checkpoint=...), got {self.init_cfg}"
            )
        self._load_pretrained(self.init_cfg['checkpoint'])

    def _init_from_scratch(self) -> None:
        for module in self.modules():
            self._init_module(module)

    def _init_module(self, module: nn.Module) -> None:
        """Fill the own weights of one submodule."""
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def _load_pretrained(self, path: str) -> None:
        """Weights of a classifier or detector."""
        from mmengine.runner.checkpoint import CheckpointLoader

        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        state = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
        translated, library = translate_state_dict(state, self.state_dict())
        state = self._own_sizes(dict(translated) if library else self._own_names(state))
        missing = self.load_state_dict(state, strict=False).missing_keys
        if missing:
            warnings.warn(f'{path} lacks {len(missing)} weights of {type(self).__name__}, e.g. {missing[0]}')

    def _own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a file of the official release under the names that this module has for them."""
        return state

    def _own_sizes(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights under our names with the shapes that this module has."""
        return state
