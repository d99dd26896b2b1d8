"""A feature pyramid that is trained with DropBlock."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mmdet.models.necks.fpn import FPN
from mmdet.registry import MODELS


@MODELS.register_module()
class FPN_DropBlock(FPN):
    """:class:`FPN` whose laterals go through a plugin once the coarser levels are added.

    Args:
        plugin: Config of a layer that keeps the shape; None for a plain FPN. The coarsest lateral, to which nothing is
            added, stays as it is.
    """

    def __init__(
        self,
        *args: Any,
        plugin: dict | None = dict(type='DropBlock', drop_prob=0.3, block_size=3, warmup_iters=0),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.plugin = None if plugin is None else MODELS.build(plugin)

    def add_coarser(self, finer: Tensor, coarser: Tensor) -> Tensor:
        merged = super().add_coarser(finer, coarser)
        return merged if self.plugin is None else self.plugin(merged)
