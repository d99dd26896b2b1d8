"""The vocabulary of heads that predict a mask for each object without regions."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from mmengine.model import BaseModule, constant_init
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.models.core import in_float32, unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.utils import InstanceList, OptInstanceList, OptMultiConfig


def check_levels(start_level: int, end_level: int) -> None:
    """Refuse a first and a last level between which there is none."""
    if not 0 <= start_level <= end_level:
        raise UserValueError(f'start_level={start_level} must be at least 0 and not above end_level={end_level}')


class BaseMaskHead(BaseModule, metaclass=ABCMeta):
    """Base of mask heads.

    Training: :meth:`loss` calls ``self(x)``, then :meth:`loss_by_feat`. Inference: :meth:`predict` calls ``self(x)``,
    then :meth:`predict_by_feat`. Where boxes come first, ``self`` is given what is known of each object as well: of the
    positives of a box head, or of its detections.
    """

    enlarged = 'probabilities'
    """Masks of exported graphs, as :class:`mmdet.export.Metadata` tells it."""

    def __init__(self, init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg=init_cfg)

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if hasattr(module, 'conv_offset'):
                constant_init(module.conv_offset, 0)  # deformable convolutions begin as plain ones

    @abstractmethod
    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict:
        """Losses of the head's own outputs; the ground truths, meta information and positives come by name."""

    @abstractmethod
    def predict_by_feat(self, *args: Any, **kwargs: Any) -> InstanceList:
        """Instances with masks of the head's own outputs; meta information, detections and the rest come by name."""

    def loss(
        self, x: tuple[Tensor, ...], batch_data_samples: SampleList, positive_infos: Any = None, **kwargs: Any
    ) -> dict:
        """Losses of feature maps ``[(B, C, H, W)]``.

        Args:
            positive_infos: ``Slots`` of the positives that a box head found, or a list of ``InstanceData``.
        """
        outs = self(x) if positive_infos is None else self(x, positive_infos)
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        return self.loss_by_feat(
            *outs,
            batch_gt_instances=gt_instances,
            batch_img_metas=metas,
            positive_infos=positive_infos,
            batch_gt_instances_ignore=ignored,
            **kwargs,
        )

    def predict(
        self,
        x: tuple[Tensor, ...],
        batch_data_samples: SampleList,
        rescale: bool = False,
        results_list: OptInstanceList = None,
        **kwargs: Any,
    ) -> InstanceList:
        """Instances with ``masks`` of each image; of the size of the original image if ``rescale``.

        Args:
            results_list: Detections of a box head.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        outs = self(x) if results_list is None else self(x, results_list)
        return in_float32(self.predict_by_feat)(
            *outs, batch_img_metas=metas, rescale=rescale, results_list=results_list, **kwargs
        )
