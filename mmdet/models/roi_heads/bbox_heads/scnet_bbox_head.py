from __future__ import annotations

from torch import Tensor

from mmdet.registry import MODELS

from .convfc_bbox_head import ConvFCBBoxHead


@MODELS.register_module()
class SCNetBBoxHead(ConvFCBBoxHead):
    """A box head that also gives the features that its branches share (SCNet, arXiv:2012.10150, Sec. 3.3)."""

    def forward(  # type: ignore[override]  # a third output on request
        self, x: Tensor, return_shared_feat: bool = False
    ) -> tuple[Tensor | None, ...]:
        """Class scores, box predictions and, with ``return_shared_feat``, shared features ``(K, c)``."""
        shared = self._forward_shared(x)
        outs = self._forward_cls_reg(shared)
        return (*outs, shared) if return_shared_feat else outs
