from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures.mask import INSTANCE_OFFSET, bitmaps_of
from mmdet.utils import InstanceList, OptConfigType, OptMultiConfig

from .base_panoptic_fusion_head import BasePanopticFusionHead


@MODELS.register_module()
class HeuristicFusionHead(BasePanopticFusionHead):
    """Instances over stuff (Panoptic Segmentation, arXiv:1801.00868, Sec. 7 and Appendix; Panoptic FPN, Sec. 4.2).

    Instances are laid down one by one, the surest first. One that lies on earlier ones for more than ``mask_overlap``
    of its area is left out; of another one the free part stays. Stuff fills the rest. A stuff class that covers fewer
    than ``stuff_area_limit`` pixels, and what is neither, are void: the label after the last class.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, None, init_cfg, **kwargs)

    def loss(self, **kwargs) -> dict:
        """No losses: there is nothing to learn."""
        return {}

    def _lay_masks(self, mask_results: InstanceData, overlap_thr: float = 0.5) -> tuple[Tensor, Tensor]:
        """Number of the instance at each pixel, ``(H, W)``, 0 for none, and labels of the instances from 1 on."""
        masks = mask_results.masks
        masks = torch.as_tensor(bitmaps_of(masks)) if isinstance(masks, list) else masks  # run-length codes
        labels, scores = mask_results.labels, mask_results.scores
        order = torch.sort(-scores).indices
        masks = masks.to(scores.device).bool()[order]
        laid = torch.zeros(masks.shape[-2:], dtype=torch.long, device=scores.device)
        number = laid.new_zeros(())
        kept = []
        areas = masks.flatten(1).sum(1)
        for mask, area in zip(masks, areas):  # each depends on those before; nothing travels to the host
            free = mask & (laid == 0)
            keep = (area > 0) & ((area - free.sum()) / (area + 1e-5) <= overlap_thr)
            number = number + keep
            laid = torch.where(free & keep, number, laid)
            kept.append(keep)
        return laid, labels[order][torch.stack(kept)] if kept else labels[:0]

    def _predict_single(self, mask_results: InstanceData, seg_preds: Tensor, **kwargs) -> PixelData:
        """The segmentation of an image: ``label + instance * INSTANCE_OFFSET``, ``(1, H, W)`` int32.

        Args:
            seg_preds: Logits ``(num_stuff_classes + 1, H, W)``, those of all things last.
        """
        segments = seg_preds.argmax(0) + self.num_things_classes  # things that no instance covers become void
        if len(mask_results):
            laid, labels = self._lay_masks(mask_results, self.test_cfg.mask_overlap)
            ids = labels + INSTANCE_OFFSET * torch.arange(1, len(labels) + 1, device=labels.device)
            height, width = segments.shape
            laid = F.pad(laid, (0, width - laid.shape[1], 0, height - laid.shape[0]))  # of a padded picture
            segments = torch.where(laid > 0, torch.cat([ids.new_zeros(1), ids])[laid], segments)
        stuff = torch.where(segments < INSTANCE_OFFSET, segments, self.num_classes).flatten()
        areas = stuff.new_zeros(self.num_classes + 1).scatter_add_(0, stuff, torch.ones_like(stuff))
        small = (areas < self.test_cfg.stuff_area_limit)[segments.clamp(max=self.num_classes)]
        segments = torch.where(small & (segments < INSTANCE_OFFSET), self.num_classes, segments)
        return PixelData(sem_seg=segments[None].int())

    def _fixed_results(self, found: InstanceData, seg_preds: Tensor) -> PixelData:
        """:meth:`_predict_single` of all images: ``sem_seg (B, H, W)``.

        Args:
            found: With ``masks (B, M, H, W)``, best first.
            seg_preds: ``(B, num_stuff_classes + 1, H, W)`` logits.
        """
        segments = seg_preds.argmax(1) + self.num_things_classes  # (B, H, W)
        batch = segments.shape[0]
        masks = found.masks & (found.labels >= 0)[..., None, None]
        areas = masks.flatten(2).sum(2)
        laid, number = torch.zeros_like(segments), segments.new_zeros(batch)
        for mask, area, label in zip(masks.unbind(1), areas.unbind(1), found.labels.unbind(1)):
            free = mask & (laid == 0)
            keep = (area > 0) & ((area - free.flatten(1).sum(1)) / (area + 1e-5) <= self.test_cfg.mask_overlap)
            number = number + keep
            ids = label + INSTANCE_OFFSET * number
            laid = torch.where(free & keep[:, None, None], ids[:, None, None], laid)
        segments = torch.where(laid > 0, laid, segments)
        stuff = torch.where(segments < INSTANCE_OFFSET, segments, self.num_classes).flatten(1)
        counts = stuff.new_zeros(batch, self.num_classes + 1).scatter_add(1, stuff, torch.ones_like(stuff))
        small = (counts < self.test_cfg.stuff_area_limit).gather(1, segments.clamp(max=self.num_classes).flatten(1))
        small = small.view(segments.shape) & (segments < INSTANCE_OFFSET)
        return PixelData(sem_seg=torch.where(small, self.num_classes, segments).int())

    def predict(self, mask_results_list: InstanceList, seg_preds_list: list[Tensor], **kwargs) -> list[PixelData]:
        """Segmentations of instances and semantic logits of each image."""
        if is_fixed_size():
            return [self._fixed_results(mask_results_list[0], seg_preds_list[0])]
        return [
            self._predict_single(masks, logits, **kwargs)
            for masks, logits in zip(mask_results_list, seg_preds_list, strict=True)
        ]
