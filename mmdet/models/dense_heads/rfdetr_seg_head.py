"""The head of RF-DETR with masks (https://github.com/roboflow/rf-detr).

Letters: L decoder layers, B images, R groups, Q queries of a group, D channels, M ground truths of all images,
P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    DenseTargets,
    PaddedGT,
    QueryOutputs,
    QueryPairs,
    as_float32,
    in_float32,
    mask_truth_at,
    mean_count,
    pad_batch,
    pick_uncertain_points,
    resized_masks,
    rows_at,
    targets_of_matching,
    unpack_gt_instances,
)
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.ops.point_sample import point_sample
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList

from .detr_head import Losses, by_layer
from .lwdetr_head import LWDETRHead


class MaskBlock(BaseModule):
    """A depthwise and a pointwise convolution with a residual (half of a block of ConvNeXt, arXiv:2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.pwconv = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, h, w)`` of the same."""
        cells = self.pwconv(self.norm(self.dwconv(x).permute(0, 2, 3, 1)))
        return x + F.gelu(cells).permute(0, 3, 1, 2)


class MaskBranch(BaseModule):
    """Maps and kernels whose products are masks; each decoder layer has a map, made of that of the layer before."""

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([MaskBlock(channels) for _ in range(num_layers)])
        self.map_proj = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.kernel_proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros(1))

    def maps(self, x: Tensor) -> list[Tensor]:
        """``[(B, D, h, w)]`` of each layer."""
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(self.map_proj(x))
        return found

    def last_map(self, x: Tensor) -> Tensor:
        """``(B, D, h, w)`` of the last layer."""
        for block in self.blocks:
            x = block(x)
        return self.map_proj(x)

    def kernels(self, queries: Tensor) -> Tensor:
        """``(..., D)`` of the same."""
        return self.kernel_proj(queries + self.mlp(self.norm(queries)))


@dataclass
class MaskedOutputs(QueryOutputs):
    """
    Attributes:
        kernels: ``(L * R, B, Q, D)``.
        maps: ``(L, B, D, h, w)``.
        seen: ``(L * R, B, Q, P)`` logits at the points where costs compare masks.
        truth: ``(B, G, P)`` ground truths there.
    """

    kernels: Tensor | None = None
    maps: Tensor | None = None
    seen: Tensor | None = None
    truth: Tensor | None = None

    def pairs(self, sizes: Tensor, metas: Sequence[dict]) -> QueryPairs:
        pairs = super().pairs(sizes, metas)
        assert self.seen is not None and self.truth is not None
        pairs.masks = self.seen.flatten(0, 1)
        pairs.fields['masks'] = self.truth.repeat(len(self.scores), 1, 1)
        return pairs


@MODELS.register_module()
class RFDETRSegHead(LWDETRHead):
    """LW-DETR's, with a mask of each query, which is a product of its kernel and a map of the picture.

    Costs and losses compare masks at points as Mask2Former does (arXiv:2112.01527, Sec. 3.3), losses most of them where
    the prediction is least certain. No mask of a query without a ground truth is ever made while training.

    Args:
        num_layers: Of the decoder.
        mask_stride: Of the maps, in pixels of the input.
        point_sample_ratio: A mask is compared at one point for so many cells.
        oversample_ratio, importance_sample_ratio: As in :func:`get_uncertain_point_coords_with_randomness`.
        test_cfg: May have ``mask_thr_binary``, by default 0.5.
    """

    enlarged = 'logits'

    def __init__(
        self,
        *args: Any,
        num_layers: int = 4,
        mask_stride: int = 4,
        point_sample_ratio: int = 16,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        loss_mask: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
        loss_dice: ConfigType = dict(
            type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0, loss_weight=5.0
        ),
        **kwargs: Any,
    ) -> None:
        self.num_layers = num_layers
        self.mask_stride = mask_stride
        self.point_sample_ratio = point_sample_ratio
        self.sampling = oversample_ratio, importance_sample_ratio
        super().__init__(*args, **kwargs)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def _init_layers(self) -> None:
        super()._init_layers()
        self.mask_branch = MaskBranch(self.embed_dims, self.num_layers)

    def _base_map(self, feature: Tensor, input_size: tuple[int, int]) -> Tensor:
        """``(B, D, h, w)`` a map of the neck in the size of masks."""
        size = tuple(side // self.mask_stride for side in input_size)
        return F.interpolate(feature, size, mode='bilinear', align_corners=False)

    def _logits(self, kernels: Tensor, maps: Tensor) -> Tensor:
        """``(..., n, h, w)`` of ``(..., n, D)`` and ``(..., D, h, w)``."""
        return torch.einsum('...nd,...dhw->...nhw', kernels, maps) + self.mask_branch.bias

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, mask_feature: Tensor, input_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """LW-DETR's, and logits ``(B, R * Q, h, w)`` of the masks of the last layer."""
        maps = self.mask_branch.last_map(self._base_map(mask_feature, input_size))
        masks = self._logits(self.mask_branch.kernels(hidden_states[-1]), maps)
        return *super().forward(hidden_states, references), masks

    # --------------------------------------------------------------------------------------------- training

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Tensor,
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        enc_outputs_feature: Tensor,
        mask_feature: Tensor,
        input_size: tuple[int, int],
        batch_data_samples: Sequence,
    ) -> dict:
        """As LW-DETR's, and losses of masks.

        Args:
            enc_outputs_feature: ``(R, B, Q, D)`` of the cells that queries begin at.
            mask_feature: ``(B, D, H, W)``, of the neck.
            input_size: Height and width of the images with their padding.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        scores, boxes = super().forward(hidden_states, references)
        groups = len(enc_outputs_class)
        start = self._base_map(mask_feature, input_size)
        apart = lambda x: x.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (L * R, B, Q, .)
        maps = torch.stack(self.mask_branch.maps(start))
        of_layers = apart(scores), apart(boxes), apart(self.mask_branch.kernels(hidden_states)), maps
        kernels = self.mask_branch.kernels(enc_outputs_feature)
        of_encoder = enc_outputs_class, enc_outputs_coord, kernels, start[None]
        truth = [self._whole_masks(image, input_size, start.device) for image in gt_instances]
        named: dict[str, Tensor] = {}
        outputs = self._outputs([of_layers, of_encoder], truth)
        for kind, losses in zip(('', 'enc_'), self._batched_losses(outputs, metas)):
            means = tuple(loss.unflatten(0, (-1, groups)).mean(1) for loss in losses)
            named.update(self._named(means, kind))
        return named

    @staticmethod
    def _whole_masks(image: InstanceData, size: tuple[int, int], device: torch.device) -> InstanceData:
        """The same with masks ``(m, H, W)`` of the padded input."""
        masks = image.masks
        if not isinstance(masks, Tensor):
            masks = masks.pad(size).to_tensor(torch.uint8, device)
        short = [whole - side for whole, side in zip(size, masks.shape[-2:])]
        masks = F.pad(masks, (0, short[1], 0, short[0])).to(torch.uint8)
        return InstanceData(bboxes=image.bboxes, labels=image.labels, masks=masks)

    def _outputs(self, parts: Sequence[tuple], truth: InstanceList) -> list[MaskedOutputs]:
        """What costs and losses take; points are drawn once for each image."""
        gt = PaddedGT.from_instances(truth)
        height, width = parts[0][3].shape[-2:]
        with torch.no_grad():
            count = max(1, height * width // self.point_sample_ratio)
            points = torch.rand(len(truth), count, 2, device=parts[0][0].device)
            pairs = zip(truth, points)
            known = [mask_truth_at(image.masks, place.expand(1, len(image.masks), -1, -1))[0] for image, place in pairs]
            padded = pad_batch(known)
        outputs = []
        for scores, boxes, kernels, maps in parts:
            with torch.no_grad():
                seen = self._logits_at(kernels.detach(), maps.detach(), points)
            fields = dict(kernels=kernels, maps=maps, seen=seen, truth=padded)
            outputs.append(MaskedOutputs(as_float32(scores), as_float32(boxes), gt, **fields))
        return outputs

    def _logits_at(self, kernels: Tensor, maps: Tensor, points: Tensor) -> Tensor:
        """``(L * R, B, Q, P)`` logits of all queries at ``points (B, P, 2)``: reading the maps there, not the masks,
        is the same and takes less. Off the edges a mask counts as zero, its bias, too."""
        maps = torch.cat([maps, torch.ones_like(maps[:, :, :1])], 2)
        repeated = points.repeat(len(maps), 1, 1)
        found = point_sample(maps.flatten(0, 1), repeated).unflatten(0, maps.shape[:2])  # (L, B, D + 1, P)
        found = found.repeat_interleave(len(kernels) // len(maps), 0)
        bias = self.mask_branch.bias.detach().expand(*kernels.shape[:-1], 1).to(kernels.dtype)
        return as_float32(torch.cat([kernels, bias], -1) @ found)

    def _losses_of(self, group: QueryOutputs, targets: DenseTargets, metas: list[dict]) -> Losses:
        assert isinstance(group, MaskedOutputs) and targets.gt_inds is not None
        return *super()._losses_of(group, targets, metas), *self._mask_losses(group, targets.gt_inds)

    def _mask_losses(self, group: MaskedOutputs, gt_inds: Tensor) -> tuple[Tensor, Tensor]:
        """``(L * R,)`` of the masks of matched queries."""
        kernels, maps, layers = group.kernels, group.maps, len(group.scores)
        assert kernels is not None and maps is not None and group.gt.instances is not None
        wanted = targets_of_matching(by_layer(gt_inds, layers), group.gt.instances, self.num_classes)
        count = mean_count(wanted.weights.sum(1))
        chosen = rows_at(kernels.flatten(1, 2), wanted.queries)  # (L * R, M, D)
        counts = [len(image) for image in wanted.masks]
        of_images = zip(chosen.unflatten(0, (len(maps), -1)).split(counts, 2), maps.unbind(1))
        masks = torch.cat([self._logits(rows, of_image[:, None]) for rows, of_image in of_images], 2)
        masks = as_float32(masks.flatten(0, 1))  # (L * R, M, h, w)
        if not masks.shape[1]:
            nothing = masks.flatten(1).sum(1) + kernels.sum() * 0 + maps.sum() * 0
            return nothing, nothing
        flat = masks.flatten(0, 1)[:, None]
        number = max(flat.shape[-2], flat.shape[-2] * flat.shape[-1] // self.point_sample_ratio)
        with torch.no_grad():
            points = pick_uncertain_points(flat, number, *self.sampling).unflatten(0, masks.shape[:2])
            places = zip(wanted.masks, points.split(counts, 1))
            truth = torch.cat([mask_truth_at(*image, mode='nearest') for image in places], 1).flatten(0, 1)
        found = point_sample(flat, points.flatten(0, 1))[:, 0]
        mask = self.loss_mask(found.flatten(), truth.flatten(), reduction_override='none').view(found.shape).mean(1)
        dice = self.loss_dice(found, truth, reduction_override='none')
        total = lambda loss: (loss.view(masks.shape[:2]) * wanted.weights).sum(1) / count
        return total(mask), total(dice)

    @staticmethod
    def _named(losses: Losses, kind: str = '') -> dict:
        named = LWDETRHead._named(losses[:3], kind)
        for name, loss in zip(('loss_mask', 'loss_dice'), losses[3:]):
            *before, last = loss.unbind()
            named[f'{kind}{name}'] = last
            named.update({f'd{index}.{kind}{name}': value for index, value in enumerate(before)})
        return named

    # -------------------------------------------------------------------------------------------- inference

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence, **rest: Any
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the first group of the same outputs."""
        losses = self.loss(hidden_states, references, batch_data_samples=batch_data_samples, **rest)
        queries = hidden_states.shape[2] // len(rest['enc_outputs_class'])
        given = hidden_states[:, :, :queries], references[:, :queries], rest['mask_feature'], rest['input_size']
        return losses, self.predict(*given, batch_data_samples, rescale=False)

    def predict(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Tensor,
        mask_feature: Tensor,
        input_size: tuple[int, int],
        batch_data_samples: Sequence,
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of each image with ``masks (K, H, W)``, of the original image if ``rescale``."""
        scores, boxes = super().forward(hidden_states[-1:], references)
        maps = self.mask_branch.last_map(self._base_map(mask_feature, input_size))
        kernels = self.mask_branch.kernels(hidden_states[-1])
        metas = [sample.metainfo for sample in batch_data_samples]
        found = in_float32(self.predict_by_feat)(scores, boxes, batch_img_metas=metas, rescale=rescale)
        candidates = scores[-1].float().sigmoid().flatten(1)
        queries = candidates.topk(self._limit(scores.shape[2], candidates.shape[1])).indices // self.num_classes
        threshold = (self.test_cfg or {}).get('mask_thr_binary', 0.5)
        with torch.no_grad():
            if is_fixed_size():
                rows = queries[..., None].expand(-1, -1, kernels.shape[-1])
                found[0].masks = self._logits(kernels.gather(1, rows), maps)
                return found
            for image, kernel, index, of_image, meta in zip(found, kernels, queries, maps, metas):
                logits = self._logits(kernel[index], of_image)
                image.masks = resized_masks(logits, input_size, meta, rescale, threshold)
        return found
