"""Heads with one prior, a point, in every cell.

Letters: B images, P points of all levels, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import multi_apply
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from .base_dense_head import BaseDenseHead


@MODELS.register_module()
class AnchorFreeHead(BaseDenseHead):
    """A tower of ``stacked_convs`` convolutions for classes and one for boxes, shared by all levels.

    Args:
        dcn_on_last_conv: Whether the last convolution of each tower is deformable (DCNv2).
        conv_bias: Bias of the towers' convolutions; 'auto' for one where there is no norm.
    """

    _version = 1

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] | Sequence[tuple[int, int]] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = 'auto',
        loss_cls: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='IoULoss', loss_weight=1.0),
        bbox_coder: ConfigType = dict(type='DistancePointBBoxCoder'),
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01),
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if conv_bias != 'auto' and not isinstance(conv_bias, bool):
            raise UserValueError(f"conv_bias must be True, False or 'auto', not {conv_bias!r}")
        self.num_classes, self.in_channels, self.feat_channels = num_classes, in_channels, feat_channels
        self.use_sigmoid_cls = loss_cls.get('use_sigmoid', False)
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        self.stacked_convs, self.strides = stacked_convs, strides
        self.dcn_on_last_conv, self.conv_bias = dcn_on_last_conv, conv_bias
        self.loss_cls, self.loss_bbox = MODELS.build(loss_cls), MODELS.build(loss_bbox)
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.prior_generator = MlvlPointGenerator(strides)
        self.num_base_priors = self.prior_generator.num_base_priors[0]
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.fp16_enabled = False
        self._init_layers()

    def _init_layers(self) -> None:
        self._init_cls_convs()
        self._init_reg_convs()
        self._init_predictor()

    def _init_cls_convs(self) -> None:
        self.cls_convs = self._tower()

    def _init_reg_convs(self) -> None:
        self.reg_convs = self._tower()

    def _init_predictor(self) -> None:
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args, **kwargs) -> None:
        """Names of the predictors before version 1, ``fcos_cls`` and so on, become ours."""
        if local_metadata.get('version') is None:
            old_names = ('cls', 'reg', 'centerness')
            for key in [key for key in state_dict if key.startswith(prefix)]:
                module, _, rest = key[len(prefix) :].partition('.')
                stem, _, name = module.rpartition('_')
                if name in old_names and stem in ('fcos', 'fovea', 'atss', 'reppoints'):
                    new = f'{prefix}conv_{name}.{rest}'
                    if hasattr(self, f'conv_{name}') and not hasattr(self, module):
                        state_dict[new] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        return multi_apply(self.forward_single, x)[:2]

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        """Class logits, box predictions, and the features of both towers."""
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        return self.conv_cls(cls_feat), self.conv_reg(reg_feat), cls_feat, reg_feat

    @abstractmethod
    def get_targets(self, points: list[Tensor], batch_gt_instances: InstanceList):
        """Targets of the points ``[(P_level, 2)]``."""
