"""The synchronised batch norm of mmcv, by torch's."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmdet.errors import UserValueError
from mmdet.registry import MODELS


@MODELS.register_module(name='MMSyncBN')
class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm with the statistics of all processes, each value counted once.

    Args:
        group: Process group; all processes by default.
        stats_mode: Accepted for configs of mmcv. ``'N'``, which weights processes by their batch sizes, is what is
            done; ``'default'``, which averages over processes, is the same where all batches are equally large.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        group: Any = None,
        stats_mode: str = 'default',
    ) -> None:
        if stats_mode not in ('default', 'N'):
            raise UserValueError(f"stats_mode must be 'default' or 'N', not {stats_mode!r}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, process_group=group)


MMSyncBN = SyncBatchNorm
