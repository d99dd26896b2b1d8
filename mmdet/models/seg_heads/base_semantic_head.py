from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmdet.errors import UserKeyError
from mmdet.models.core import unstacked
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptMultiConfig


@MODELS.register_module()
class BaseSemanticHead(BaseModule, metaclass=ABCMeta):
    """Base of heads that give each cell of the feature maps one class.

    Args:
        num_classes: Channels of the logits.
        seg_rescale_factor: Size of the logits relative to the picture.
    """

    def __init__(
        self,
        num_classes: int,
        seg_rescale_factor: float = 1 / 4.0,
        loss_seg: ConfigType = dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=1.0),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_seg = MODELS.build(loss_seg)
        self.num_classes = num_classes
        self.seg_rescale_factor = seg_rescale_factor

    @abstractmethod
    def forward(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """``seg_preds``, logits ``(B, num_classes, h, w)``, and what else a subclass has to give."""

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """``loss_seg`` of the semantic maps of the samples."""
        return self._loss_of(x, semantic_maps(batch_data_samples))

    def _loss_of(self, x: tuple[Tensor, ...], labels: Tensor) -> dict[str, Tensor]:
        """``labels``: ``(B, 1, H, W)``, of the pictures' size."""
        if self.seg_rescale_factor != 1.0:
            labels = F.interpolate(labels.float(), scale_factor=self.seg_rescale_factor, mode='nearest')
        return dict(loss_seg=self.loss_seg(self(x)['seg_preds'], labels.squeeze(1).long()))

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rescale: bool = False) -> list[Tensor]:
        """Logits ``(num_classes, H, W)`` of each image: of the padded batch, or of the original size if ``rescale``."""
        logits = self(x)['seg_preds'].float()
        logits = F.interpolate(
            logits, size=batch_img_metas[0]['batch_input_shape'], mode='bilinear', align_corners=False
        )
        if not rescale or is_fixed_size():
            return unstacked(logits)
        results = []
        for one, meta in zip(logits, batch_img_metas):
            height, width = meta['img_shape'][:2]
            inside = one[None, :, :height, :width]
            results.append(F.interpolate(inside, size=meta['ori_shape'][:2], mode='bilinear', align_corners=False)[0])
        return results


def semantic_maps(samples: SampleList) -> Tensor:
    """Semantic maps of a batch, ``(B, 1, H, W)``.

    Raises:
        UserKeyError: a sample has none, with the path of its picture.
    """
    for sample in samples:
        if 'gt_sem_seg' not in sample:
            raise UserKeyError(
                f'{sample.metainfo.get("img_path", "a picture")} has no semantic map, which this model learns from: '
                'the pipeline of train_dataloader needs LoadPanopticAnnotations, or LoadAnnotations with with_seg=True '
                "and a data set with 'seg' in its data_prefix"
            )
    return torch.stack([sample.gt_sem_seg.sem_seg for sample in samples])
