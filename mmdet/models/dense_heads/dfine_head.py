"""The head of D-FINE (arXiv:2410.13842).

Letters: L decoder layers, B images, D denoising queries, Q others, R bins of a side, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from mmdet.utils import InstanceList

from .detr_head import by_layer, image_sizes, overlaps_with_truth
from .dino_head import DINOHead


def voted_matches(gt_inds: Tensor, num_gt: int) -> Tensor:
    """``(B, Q)`` of matchings ``(T, B, Q)``: the ground truth that most of them give a query, 0 where none gives any;
    of equals the first (Sec. 4.2, "global optimal localization self-distillation", with the union of all matchings)."""
    votes = gt_inds.new_zeros(*gt_inds.shape[1:], num_gt + 1)
    votes.scatter_add_(2, gt_inds.permute(1, 2, 0), torch.ones_like(votes[..., :1]).expand(-1, -1, len(gt_inds)))
    most, index = votes[..., 1:].max(-1)
    return torch.where(most > 0, index + 1, 0)


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
        rest = lambda *outputs: [value[:, :, count:] for value in outputs]
        layers = QueryOutputs(*rest(all_layers_cls_scores, all_layers_bbox_preds), gt)
        first = QueryOutputs(*rest(first_cls_scores, first_bbox_preds), gt)
        outputs = float_outputs([layers, first, QueryOutputs(enc_cls_scores[None], enc_bbox_preds[None], gt)])
        groups, counts = joined(outputs)
        own = self._match(groups, batch_img_metas)
        shared = self._shared_targets(own, gt, batch_img_metas)
        losses: list[tuple[Tensor, ...]] = []
        for group, targets in zip(groups, own):
            boxes = self._box_losses(group, shared.repeated(len(group.scores)), batch_img_metas)
            losses.append((self._class_losses(group, targets), *boxes))
        named: dict[str, Tensor] = {}
        for kind, values in zip(('', 'pre_', 'enc_'), parted(losses, counts)):
            named.update(self._named(values, kind))
        corners, start = rest(all_layers_corners, first_bbox_preds)
        roots = self._counts(shared)
        named.update(self._side_losses(outputs[0], corners, start[0], shared, roots, ''))
        if dn_meta is not None:
            noisy = lambda *outputs: [value[:, :, :count] for value in outputs]
            known = self._denoising_targets(batch_gt_instances, batch_img_metas, dn_meta)
            pairs = noisy(all_layers_cls_scores, all_layers_bbox_preds), noisy(first_cls_scores, first_bbox_preds)
            outputs = float_outputs([QueryOutputs(*pair, gt) for pair in pairs])
            groups, counts = joined(outputs)
            losses = [self._losses_of(group, known.repeated(len(group.scores)), batch_img_metas) for group in groups]
            for kind, values in zip(('dn_', 'dn_pre_'), parted(losses, counts)):
                named.update(self._named(values, kind))
            corners, start = noisy(all_layers_corners, first_bbox_preds)
            named.update(self._side_losses(outputs[0], corners, start[0], known, roots, 'dn_'))
        return named

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
        group: QueryOutputs,
        corners: Tensor,
        start: Tensor,
        targets: DenseTargets,
        counts: tuple[Tensor, Tensor],
        kind: str,
    ) -> dict:
        """Fine-grained localization of all layers, and distillation from the last to the others.

        Args:
            corners: ``(L, B, Q, 4 * (R + 1))``.
            start: ``(B, Q, 4)`` boxes that sides are measured from.
            targets: ``(B, Q, ...)``.
        """
        if not (self.loss_fgl_weight or self.loss_ddf_weight):
            return {}
        last = len(corners) - 1
        layers = targets.repeated(last + 1)
        quality, pos = overlaps_with_truth(group, layers), targets.pos
        truth = torch.where(pos[..., None], targets.bbox_targets, start.detach())
        places = self.places.float()
        logits = as_float32(corners).unflatten(-1, (4, -1))  # (L, B, Q, 4, R + 1)
        bins, parts = side_targets(start.detach().float(), truth.float(), places, self.reg_scale)
        wanted = [value.expand(last + 1, *value.shape) for value in (bins, parts)]
        entropy = side_entropy(logits, *wanted).sum(-1) * quality
        fine = entropy.flatten(1).sum(1) / mean_count(pos.sum())
        names = [*(f'd{index}.' for index in range(last)), '']
        named = {f'{name}{kind}loss_fgl': self.loss_fgl_weight * value for name, value in zip(names, fine)}
        if last:
            log = (logits / self.temperature).log_softmax(-1)
            teacher = log[-1].detach()
            apart = (teacher.exp() * (teacher - log[:-1])).sum((-2, -1)) * self.temperature**2  # (L - 1, B, Q)
            apart = apart * torch.where(pos, quality[:-1], group.scores[-1].detach().sigmoid().amax(-1))
            mean = lambda mask: (apart * mask).flatten(1).sum(1) / (4 * mask.sum().clamp(min=1))
            distilled = (mean(pos) * counts[0] + mean(~pos) * counts[1]) / (counts[0] + counts[1])
            named.update({f'{name}{kind}loss_ddf': self.loss_ddf_weight * v for name, v in zip(names, distilled)})
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
