"""The head of D-FINE (arXiv:2410.13842).

Letters: L decoder layers, B images, D denoising queries, Q others, R bins of a side, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import constant_init
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    QueryOutputs,
    as_float32,
    bin_places,
    float_outputs,
    joined,
    mean_count,
    parted,
    side_entropy,
    side_targets,
    unpack_gt_instances,
)
from mmdet.models.layers.mlp import each_through
from mmdet.models.layers.transformer import LocationQuality
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.structures.bbox.bbox_overlaps import bbox_overlaps
from mmdet.utils import InstanceList

from .detr_head import by_layer, image_sizes
from .dino_head import DINOHead


def voted_matches(gt_inds: Tensor, num_gt: int) -> Tensor:
    """``(B, Q)`` of matchings ``(T, B, Q)``: the ground truth that most of them give a query, 0 where none gives any;
    of equals the first (Sec. 4.2, "global optimal localization self-distillation", with the union of all matchings)."""
    votes = gt_inds.new_zeros(*gt_inds.shape[1:], num_gt + 1)
    votes.scatter_add_(2, gt_inds.permute(1, 2, 0), torch.ones_like(votes[..., :1]).expand(-1, -1, len(gt_inds)))
    most, index = votes[..., 1:].max(-1)
    return torch.where(most > 0, index + 1, 0)


def side_by_side(first: DenseTargets, second: DenseTargets) -> DenseTargets:
    """Targets ``(B, D + Q, ...)`` of those of D and of Q queries; without numbers that are of all of them."""
    names = 'labels', 'label_weights', 'bbox_targets', 'bbox_weights', 'pos'
    both = {name: torch.cat([getattr(first, name), getattr(second, name)], 1) for name in names}
    return replace(second, **both, gt_inds=None)


def overlaps_of(boxes: Tensor, targets: DenseTargets) -> Tensor:
    """``(L, B, Q)`` IoU of the positives of ``(L, B, Q, 4)`` with their targets ``(B, Q, ...)``, 0 elsewhere, without
    gradient."""
    found = bbox_cxcywh_to_xyxy(boxes.detach())
    truth = bbox_cxcywh_to_xyxy(targets.bbox_targets).expand_as(found)
    overlaps = bbox_overlaps(found.flatten(0, 2), truth.flatten(0, 2), is_aligned=True).view(found.shape[:3])
    return torch.where(targets.pos, overlaps, 0.0)


@MODELS.register_module()
class DFINEHead(DINOHead):
    """DINO's, whose layers predict distributions of the sides of boxes, and learn from those of the last layer.

    Boxes are supervised by what most layers are matched to, classes by the matching of their own layer.

    Args:
        reg_max: R.
        reg_scale, up: Constants of the places of the bins (Eq. 2).
        loss_fgl_weight: Of the fine-grained localization loss (Eq. 3).
        loss_ddf_weight: Of the decoupled distillation focal loss (Eq. 5); with 0 for both there is neither.
        temperature: Of the distillation.
        share_box_branch: Whether all layers have one branch for the sides.
    """

    def __init__(
        self,
        *args: Any,
        reg_max: int = 32,
        reg_scale: float = 4.0,
        up: float = 0.5,
        loss_fgl_weight: float = 0.15,
        loss_ddf_weight: float = 1.5,
        temperature: float = 5.0,
        share_box_branch: bool = False,
        **kwargs: Any,
    ) -> None:
        if reg_max < 4 or reg_max % 2:
            raise UserValueError(f'reg_max must be even and at least 4, got {reg_max}')
        self.reg_max = reg_max
        self.reg_scale = reg_scale
        self.loss_fgl_weight = loss_fgl_weight
        self.loss_ddf_weight = loss_ddf_weight
        self.temperature = temperature
        self.share_box_branch = share_box_branch
        super().__init__(*args, **kwargs)
        self.register_buffer('places', bin_places(reg_max, up, reg_scale), persistent=False)

    def _init_layers(self) -> None:
        super()._init_layers()
        layers = self.num_pred_layer - 1
        self.pre_bbox_head = self.reg_branches[0]
        sides = [self._box_branch(4 * (self.reg_max + 1)) for _ in range(1 if self.share_box_branch else layers)]
        sides = sides * layers if self.share_box_branch else sides
        self.reg_branches = nn.ModuleList([*sides, self._box_branch(4)])
        self.lqe_layers = nn.ModuleList([LocationQuality() for _ in range(layers)])

    def init_weights(self) -> None:
        super().init_weights()
        for branch in (*self.reg_branches, self.pre_bbox_head):
            constant_init(branch[-1], 0, bias=0)

    def deploy(self, layer: int) -> None:
        """As DINO's; what sides tell of a score is left for the last layer."""
        super().deploy(layer)
        left = [nn.Identity() if i < layer else module for i, module in enumerate(self.lqe_layers)]
        self.lqe_layers = nn.ModuleList(left)

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, corners: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits ``(L, B, Q, C)`` and boxes ``(L, B, Q, 4)`` of what the decoder gave."""
        first, states = self.detecting or 0, self._detecting_states(hidden_states)
        layers: list[Any] = list(self.lqe_layers)[first:]
        sharpness = layers[0].sharpness(corners[-len(states) :])
        quality = each_through([layer.reg_conf for layer in layers], sharpness)
        return each_through(list(self.cls_branches)[first:], states) + quality, references[-len(states) :]

    def loss(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Tensor,
        corners: Tensor,
        start: Tensor,
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        batch_data_samples: Sequence,
        dn_meta: dict | None,
    ) -> dict:
        """Losses of what decoder and encoder gave; ``pre_`` are those of the boxes that sides are measured from."""
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        scores, boxes = self(hidden_states, references, corners, start)
        first = self.cls_branches[0](hidden_states[0])[None]
        encoder = enc_outputs_class, enc_outputs_coord
        return self.loss_by_feat(scores, boxes, corners, first, start[None], *encoder, gt_instances, metas, dn_meta)

    def loss_by_feat(  # type: ignore[override]
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        all_layers_corners: Tensor,
        first_cls_scores: Tensor,
        first_bbox_preds: Tensor,
        enc_cls_scores: Tensor,
        enc_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        dn_meta: dict | None,
    ) -> dict:
        """Losses of the layers, of the first boxes and of the encoder, and ``dn_`` those of denoising."""
        gt, count = PaddedGT.from_instances(batch_gt_instances), (dn_meta or {}).get('num_denoising_queries', 0)
        all_scores = torch.cat([all_layers_cls_scores, first_cls_scores])
        all_boxes = torch.cat([all_layers_bbox_preds, first_bbox_preds])
        encoder = QueryOutputs(enc_cls_scores[None], enc_bbox_preds[None], gt)
        whole, encoder = float_outputs([QueryOutputs(all_scores, all_boxes, gt), encoder])  # (L + 1, B, D + Q, .)
        matched = QueryOutputs(whole.scores[:, :, count:], whole.boxes[:, :, count:], gt)
        groups, counts = joined([matched, encoder])
        own = self._match(groups, batch_img_metas)
        shared = self._shared_targets(own, gt, batch_img_metas)
        kinds, wanted = {'': slice(count, None)}, shared
        if dn_meta is not None:
            known = self._denoising_targets(batch_gt_instances, batch_img_metas, dn_meta)
            kinds['dn_'], wanted = slice(count), side_by_side(known, shared)
        terms, of_encoder = self._box_terms([(whole, wanted), (encoder, shared)], batch_img_metas)
        classes = [(self._class_losses(group, targets),) for group, targets in zip(groups, own)]
        (scored,), (encoder_scored,) = parted(classes, counts)
        named: dict[str, Tensor] = {}
        for kind, part in kinds.items():
            if kind:
                noisy = QueryOutputs(whole.scores[:, :, part], whole.boxes[:, :, part], gt)
                scored = self._class_losses(noisy, known.repeated(len(noisy.scores)))
            losses = scored, *self._sums(terms, part, wanted.pos[:, part])
            named.update(self._named(tuple(loss[:-1] for loss in losses), kind))
            named.update(self._named(tuple(loss[-1:] for loss in losses), f'{kind}pre_'))
        encoder_losses = encoder_scored, *self._sums(of_encoder, slice(None), shared.pos)
        named.update(self._named(encoder_losses, 'enc_'))
        sides = all_layers_corners, first_bbox_preds[0], whole.scores[-2], wanted
        quality = overlaps_of(whole.boxes[:-1], wanted)
        named.update(self._side_losses(*sides, quality, self._counts(shared), kinds))
        return named

    def _box_terms(
        self, groups: Sequence[tuple[QueryOutputs, DenseTargets]], metas: list[dict]
    ) -> list[tuple[Tensor, Tensor]]:
        """L1 and IoU losses ``(L, B, Q)`` of groups, all layers of which have the same targets ``(B, Q, ...)``."""
        rows = lambda group, value: value.expand(len(group.boxes), *value.shape).flatten(0, 2)  # (L * B * Q, .)
        boxes = torch.cat([group.boxes.flatten(0, 2) for group, _ in groups])
        sizes = image_sizes(metas, boxes)[:, None]
        facts = [torch.cat([t.bbox_targets, t.bbox_weights, sizes.expand_as(t.bbox_targets)], -1) for _, t in groups]
        of_rows = torch.cat([rows(group, fact) for (group, _), fact in zip(groups, facts)])
        truth, weights, scale = of_rows.split(4, -1)
        pos = torch.cat([rows(group, targets.pos) for group, targets in groups])
        truth = torch.where(pos[:, None], truth, boxes.detach())
        corners, true_corners = bbox_cxcywh_to_xyxy(boxes) * scale, bbox_cxcywh_to_xyxy(truth) * scale
        distance = self.loss_bbox(boxes, truth, weights, reduction_override='none').sum(-1)
        overlap = self.loss_iou(corners, true_corners, weights.mean(-1), reduction_override='none')
        shapes = [group.boxes.shape[:3] for group, _ in groups]
        parts = [value.split([shape.numel() for shape in shapes]) for value in (distance, overlap)]
        return [tuple(part.view(shape) for part in pair) for shape, *pair in zip(shapes, *parts)]

    @staticmethod
    def _sums(terms: Sequence[Tensor], part: slice, pos: Tensor) -> list[Tensor]:
        """``(L,)`` sums of terms ``(L, B, Q)`` over a part of the queries, by the number of its positives."""
        factor = mean_count(pos.sum()) + torch.finfo(torch.float32).eps
        return [term[:, :, part].flatten(1).sum(1) / factor for term in terms]

    @torch.no_grad()
    def _shared_targets(self, own: Sequence[DenseTargets], gt: PaddedGT, metas: list[dict]) -> DenseTargets:
        """Targets ``(B, Q, ...)`` by the votes of all matchings."""
        inds = torch.cat([by_layer(t.gt_inds, len(t.gt_inds) // len(metas)) for t in own if t.gt_inds is not None])
        voted = Assignment(voted_matches(inds, gt.boxes.shape[1]))
        return DenseTargets.build(voted, gt.normalized(image_sizes(metas, gt.boxes)), self.num_classes)

    @staticmethod
    def _counts(targets: DenseTargets) -> tuple[Tensor, Tensor]:
        """What the distillation of matched and of other queries counts: the roots of their numbers in a batch of 8."""
        scale = 8 * 4 / len(targets.pos)
        return (targets.pos.sum() * scale).sqrt(), ((~targets.pos).sum() * scale).sqrt()

    def _side_losses(
        self,
        corners: Tensor,
        start: Tensor,
        last_scores: Tensor,
        targets: DenseTargets,
        quality: Tensor,
        counts: tuple[Tensor, Tensor],
        kinds: dict[str, slice],
    ) -> dict:
        """Fine-grained localization of all layers, and distillation from the last to the others.

        Args:
            corners: ``(L, B, Q, 4 * (R + 1))``.
            start: ``(B, Q, 4)`` boxes that sides are measured from.
            last_scores: ``(B, Q, C)`` logits of the last layer.
            targets: ``(B, Q, ...)``.
            quality: ``(L, B, Q)`` overlaps of the positives.
            kinds: Which queries each kind of losses is of.
        """
        if not (self.loss_fgl_weight or self.loss_ddf_weight):
            return {}
        last, pos, start = len(corners) - 1, targets.pos, start.detach().float()
        truth = torch.where(pos[..., None], targets.bbox_targets, start)
        logits = as_float32(corners).unflatten(-1, (4, -1))  # (L, B, Q, 4, R + 1)
        bins, parts = side_targets(start, truth.float(), self.places.float(), self.reg_scale)
        wanted = [value.expand(last + 1, *value.shape) for value in (bins, parts)]
        entropy = side_entropy(logits, *wanted).sum(-1) * quality
        names = [*(f'd{index}.' for index in range(last)), '']
        named: dict[str, Tensor] = {}
        for kind, part in kinds.items():
            fine = self.loss_fgl_weight * entropy[:, :, part].flatten(1).sum(1) / mean_count(pos[:, part].sum())
            named.update({f'{name}{kind}loss_fgl': value for name, value in zip(names, fine.unbind())})
        if last:
            log = (logits / self.temperature).log_softmax(-1)
            teacher = log[-1].detach()
            apart = (teacher.exp() * (teacher - log[:-1])).sum((-2, -1)) * self.temperature**2  # (L - 1, B, Q)
            apart = apart * torch.where(pos, quality[:-1], last_scores.detach().sigmoid().amax(-1))
            roots = torch.stack(counts)
            roots = self.loss_ddf_weight / 4 * roots / roots.sum()
            for kind, part in kinds.items():
                inside = pos[:, part]
                masks = torch.stack([inside, ~inside], -1)[None]  # (1, B, Q, 2)
                means = (apart[:, :, part, None] * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
                distilled = (means * roots).sum(-1)
                named.update({f'{name}{kind}loss_ddf': value for name, value in zip(names, distilled.unbind())})
        return named

    def loss_and_predict(  # type: ignore[override]
        self, hidden_states: Tensor, references: Tensor, batch_data_samples: Sequence, **rest: Any
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs without those of denoising."""
        first = (rest['dn_meta'] or {}).get('num_denoising_queries', 0)
        losses = self.loss(hidden_states, references, batch_data_samples=batch_data_samples, **rest)
        given = hidden_states[:, :, first:], references[:, :, first:], rest['corners'][:, :, first:]
        return losses, self.predict(*given, rest['start'], batch_data_samples, rescale=False)

    def predict(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        references: Tensor,
        corners: Tensor,
        start: Tensor,
        batch_data_samples: Sequence,
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of each image by the last layer."""
        outs = self(hidden_states, references, corners, start)
        return self._predict_of(outs, batch_data_samples, rescale)
