"""Any network of the package timm as a backbone."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn

from mmdet.errors import UserImportError, UserKeyError, UserRuntimeError, UserValueError
from mmdet.registry import MODELS

# What lets a network that was made for pictures of one size take others; each kind of network knows one of them
ANY_SIZE = (dict(dynamic_img_size=True), dict(strict_img_size=False, dynamic_mask=True), dict(strict_img_size=False))


class TIMMBackbone(BaseModule):
    """A network of timm; the names of its weights are those of timm below ``timm_model``.

    Args:
        model_name: Such as 'resnet50' or 'resnet50.a1_in1k'; ``timm.list_models()`` lists them.
        features_only: Give a map of each stage, those of ``out_indices``. Otherwise there is one map, the last.
        pretrained: Start from the weights that timm publishes. They are fetched when weights are initialised, not when
            the network is built, so a checkpoint that is loaded instead needs no network.
        checkpoint_path: A file with weights to start from.
        in_channels: Channels of the pictures.
        out_indices: The stages whose maps are given, all by default. The first is stage 0.
        kwargs: Further arguments of ``timm.create_model``. ``norm_layer`` may be the name of a registered layer.

    Networks for pictures of one size take others, where timm can let them.
    """

    keywords_go_to = None

    def __init__(
        self,
        model_name: str,
        features_only: bool = False,
        pretrained: bool = False,
        checkpoint_path: str = '',
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(pretrained, bool):
            raise UserValueError(
                f'pretrained must be True or False, not {pretrained!r}; a file of weights is given by checkpoint_path'
            )
        if isinstance(kwargs.get('norm_layer'), str):
            kwargs['norm_layer'] = MODELS.get(kwargs['norm_layer'])
        if not features_only:
            indices = kwargs.pop('out_indices', None)
            if indices is not None:
                raise UserValueError(f'out_indices={indices} needs features_only=True')
        self.model_name = model_name
        self.features_only, self.pretrained, self.checkpoint_path = features_only, pretrained, checkpoint_path
        self._options = dict(kwargs, in_chans=in_channels, features_only=features_only)
        self.timm_model = self._create()

    def _create(self, **weights: Any) -> nn.Module:
        timm = _timm()
        if not timm.is_model(self.model_name):
            near = difflib.get_close_matches(self.model_name, timm.list_models(), n=3)
            hint = f' Did you mean {" or ".join(near)}?' if near else ''
            raise UserKeyError(f'timm {timm.__version__} has no network {self.model_name!r}.{hint}')
        options = {**copy.copy(self._options), **weights}
        for extra in (*ANY_SIZE, {}):
            try:
                model = timm.create_model(self.model_name, **{**extra, **options})
                break
            except TypeError as error:
                if not any(f"'{name}'" in str(error) for name in extra):
                    raise
            except AssertionError as error:
                raise UserValueError(f'timm cannot make {self.model_name} with {options}: {error}') from error
        if not self.features_only:
            model.reset_classifier(0, '')
        return model

    @property
    def feature_channels(self) -> list[int]:
        """Channels of each map that :meth:`forward` gives."""
        return self.timm_model.feature_info.channels() if self.features_only else [self.timm_model.num_features]

    def init_weights(self) -> None:
        """Load the weights that the arguments name; without any, timm's initial ones stay."""
        if self.checkpoint_path or self.pretrained:
            weights = dict(checkpoint_path=self.checkpoint_path) if self.checkpoint_path else dict(pretrained=True)
            try:
                state = self._create(**weights).state_dict()
            except (OSError, RuntimeError) as error:
                raise UserRuntimeError(
                    f'the weights of {self.model_name!r} of timm cannot be loaded from '
                    f'{self.checkpoint_path or "the hub"}: {_first_line(error)}. Give a file as checkpoint_path, or '
                    'set pretrained=False.'
                ) from error
            self.timm_model.load_state_dict(state)
        elif self.init_cfg:
            initialize(self, self.init_cfg)
        else:
            MMLogger.get_current_instance().info(f'{self.model_name} of timm starts from random weights')

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """``(B, in_channels, H, W)`` -> maps ``(B, C, h, w)``."""
        try:
            maps = self.timm_model(x) if self.features_only else [self.timm_model.forward_features(x)]
        except AssertionError as error:  # the way in which timm refuses a size
            size = 'x'.join(map(str, x.shape[2:]))
            raise UserValueError(f'{self.model_name} of timm takes no pictures of {size}: {error}') from error
        if str(getattr(self.timm_model, 'output_fmt', 'NCHW')).endswith('NHWC'):
            maps = [each.permute(0, 3, 1, 2).contiguous() for each in maps]
        if maps[-1].ndim != 4:
            raise UserValueError(f'{self.model_name} of timm gives tokens, no map: set features_only=True')
        return tuple(maps)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserImportError(f'TIMMBackbone needs timm: pip install timm ({error})') from error
    return timm


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0].rstrip('.')
