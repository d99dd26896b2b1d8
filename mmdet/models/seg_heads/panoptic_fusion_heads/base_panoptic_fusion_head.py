from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from mmengine.model import BaseModule

from mmdet.registry import MODELS
from mmdet.utils import OptConfigType, OptMultiConfig


@MODELS.register_module()
class BasePanopticFusionHead(BaseModule, metaclass=ABCMeta):
    """Makes one map of things and stuff out of what other heads predict.

    Things have the labels from 0 to ``num_things_classes``, stuff those after them; ``num_classes``, the number of
    both, stands for pixels of no segment.

    Args:
        loss_panoptic: Config of a loss of the fused map; none of the heads of this package has one.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        test_cfg: OptConfigType = None,
        loss_panoptic: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.num_classes = num_things_classes + num_stuff_classes
        self.test_cfg = test_cfg
        self.loss_panoptic = MODELS.build(loss_panoptic) if loss_panoptic else None

    @property
    def with_loss(self) -> bool:
        """Whether the fused map has a loss."""
        return self.loss_panoptic is not None

    @abstractmethod
    def loss(self, **kwargs: Any) -> dict:
        """Losses by name; empty where nothing is learned."""

    @abstractmethod
    def predict(self, **kwargs: Any) -> list:
        """Results of each image."""
