"""The head of MaskFormer (arXiv:2107.06278), whose queries predict a class and a mask each.

Letters: L decoder layers, B images, Q queries, C classes, D channels, M ground truths of all images, h and w of a
predicted mask, H and W of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, caffe2_xavier_init
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdet.errors import UserValueError
from mmdet.models.core import (
    MaskTargets,
    QueryPairs,
    as_float32,
    by_batch,
    constant,
    gt_of_masks,
    layer_losses,
    mean_count,
    padded_cells,
    targets_of_matching,
    things_and_stuff,
)
from mmdet.models.layers.pixel_decoder import PixelDecoder
from mmdet.models.layers.positional_encoding import SinePositionalEncoding
from mmdet.models.layers.transformer import DetrTransformerDecoder
from mmdet.models.task_modules.joints import match_groups
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from . import mask_query_joints as joints

Losses = tuple[Tensor, Tensor, Tensor]
PIXEL_BUDGET = 16 * 1024**2
"""Pixels of all layers whose losses are in memory at once; with more, they are computed again in the backward pass."""


@MODELS.register_module()
class MaskFormerHead(BaseModule):
    """Masks are products of what queries have become and a map of the image's size.

    Things have the labels from 0 to ``num_things_classes``, stuff those after them; all are matched alike. All decoder
    layers, of all images, are matched at once and have their losses at once.

    Args:
        in_channels: Of the feature maps, finest first.
        feat_channels: D.
        out_channels: Of the map and of what it is multiplied by.
        pixel_decoder: Config of what makes the map, and of what queries attend to, of the feature maps.
        enforce_decoder_input_project: Whether a plain :class:`PixelDecoder` is followed by a projection even where
            none is needed.
        transformer_decoder: Arguments of :class:`DetrTransformerDecoder`.
        positional_encoding: Arguments of :class:`SinePositionalEncoding`.
        loss_cls: Has the ``class_weight`` of each class, and of background.
        train_cfg: Has the ``assigner`` and the ``sampler``.
    """

    decoder_class: type[DetrTransformerDecoder] = DetrTransformerDecoder

    def __init__(
        self,
        in_channels: list[int] | tuple[int, ...],
        feat_channels: int,
        out_channels: int,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        num_queries: int = 100,
        pixel_decoder: ConfigType = ...,  # type: ignore[assignment]
        enforce_decoder_input_project: bool = False,
        transformer_decoder: ConfigType = ...,  # type: ignore[assignment]
        positional_encoding: ConfigType = dict(num_feats=128, normalize=True),
        loss_cls: ConfigType = dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, class_weight=[1.0] * 133 + [0.1]
        ),
        loss_mask: ConfigType = dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0),
        loss_dice: ConfigType = dict(
            type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, loss_weight=1.0
        ),
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.num_classes = num_things_classes + num_stuff_classes
        self.num_queries = num_queries
        channels = dict(in_channels=in_channels, feat_channels=feat_channels, out_channels=out_channels)
        self.pixel_decoder = MODELS.build({**pixel_decoder, **channels})
        self.transformer_decoder = self.decoder_class(**transformer_decoder)
        self.decoder_embed_dims = self.transformer_decoder.embed_dims
        self._init_decoder_inputs(in_channels, feat_channels, enforce_decoder_input_project)
        self.decoder_pe = SinePositionalEncoding(**positional_encoding)
        self.query_embed = nn.Embedding(num_queries, feat_channels)
        self.cls_embed = nn.Linear(feat_channels, self.num_classes + 1)
        hidden = [layer for _ in range(2) for layer in (nn.Linear(feat_channels, feat_channels), nn.ReLU(inplace=True))]
        self.mask_embed = nn.Sequential(*hidden, nn.Linear(feat_channels, out_channels))
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
            self.sampler = TASK_UTILS.build(train_cfg['sampler'], default_args=dict(context=self))
        self.class_weight = loss_cls.get('class_weight')
        if self.class_weight is None:
            self.class_weight = [1.0] * (self.num_classes + 1)
        if len(self.class_weight) != self.num_classes + 1:
            raise UserValueError(
                f'class_weight of loss_cls has {len(self.class_weight)} numbers; it needs one for each of the '
                f'{self.num_classes} classes, things and stuff, and one for background'
            )
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)

    def _init_decoder_inputs(self, in_channels: Sequence[int], feat_channels: int, enforce: bool) -> None:
        plain = type(self.pixel_decoder) is PixelDecoder
        project = plain and (enforce or in_channels[-1] != self.decoder_embed_dims)
        width = self.decoder_embed_dims
        self.decoder_input_proj = nn.Conv2d(in_channels[-1], width, 1) if project else nn.Identity()

    def init_weights(self) -> None:
        super().init_weights()
        if isinstance(self.decoder_input_proj, nn.Conv2d):
            caffe2_xavier_init(self.decoder_input_proj, bias=0)
        for parameter in self.transformer_decoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> tuple[Any, Any]:
        """Logits ``(L, B, Q, C + 1)`` and masks ``(L, B, Q, h, w)``, of feature maps, finest first."""
        metas = [sample.metainfo for sample in batch_data_samples or ()]
        padding = padded_cells(x[-1:], metas)
        mask = None if padding is None else padding[0]
        mask_features, memory = self.pixel_decoder(x, metas)
        place = self.decoder_pe(mask, input=x[-1]).to(memory.dtype)
        memory, place = (maps.flatten(2).transpose(1, 2) for maps in (self.decoder_input_proj(memory), place))
        query_pos = self.query_embed.weight.expand(memory.shape[0], -1, -1)
        states = self.transformer_decoder(
            query=torch.zeros_like(query_pos),
            key=memory,
            value=memory,
            query_pos=query_pos,
            key_pos=place,
            key_padding_mask=None if mask is None else mask.flatten(1),
        )
        return self.cls_embed(states), torch.einsum('lbqc,bchw->lbqhw', self.mask_embed(states), mask_features)

    # --------------------------------------------------------------------------------------------- training

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses by name: of the last layer, and ``d0.`` and so on of those before."""
        metas = [sample.metainfo for sample in batch_data_samples]
        instances = [sample.gt_instances for sample in batch_data_samples]
        maps = [sample.gt_sem_seg if 'gt_sem_seg' in sample else None for sample in batch_data_samples]
        truth = self.preprocess_gt(instances, maps)
        scores, masks = self(x, batch_data_samples)
        return self.loss_by_feat(scores, masks, truth, metas)

    def preprocess_gt(self, batch_gt_instances: InstanceList, batch_gt_semantic_segs: list) -> InstanceList:
        """``labels (g,)`` and ``masks (g, H, W)``, uint8, of the things and stuff of each image.

        Args:
            batch_gt_semantic_segs: ``PixelData`` of each image, or None.
        """
        maps = [None if seg is None else seg.sem_seg for seg in batch_gt_semantic_segs]
        return things_and_stuff(batch_gt_instances, maps, self.num_things_classes, self.num_stuff_classes)

    def loss_by_feat(
        self, all_cls_scores: Any, all_mask_preds: Any, batch_gt_instances: InstanceList, batch_img_metas: list[dict]
    ) -> dict[str, Tensor]:
        """Losses of what :meth:`forward` and :meth:`preprocess_gt` gave."""
        truth = batch_gt_instances, batch_img_metas
        if hasattr(self._loss_by_feat_single, 'by_batch'):
            losses = self._losses(all_cls_scores, all_mask_preds, *truth)
        else:
            layers = zip(all_cls_scores, all_mask_preds)
            losses = joints.stacked(self._loss_by_feat_single(*layer, *truth) for layer in layers)
        return joints.named_by_layer(('loss_cls', 'loss_mask', 'loss_dice'), losses)

    @by_batch
    def _loss_by_feat_single(
        self, cls_scores: Tensor, mask_preds: Tensor, batch_gt_instances: InstanceList, batch_img_metas: list[dict]
    ) -> Losses:
        """Losses of class, mask and Dice of one layer, ``(B, Q, .)``."""
        losses = self._losses(cls_scores[None], mask_preds[None], batch_gt_instances, batch_img_metas)
        return losses[0][0], losses[1][0], losses[2][0]

    def _losses(self, scores: Any, masks: Any, truth: InstanceList, metas: list[dict]) -> Losses:
        """``(L,)`` of each loss."""
        scores = as_float32(torch.stack(list(scores)))
        if joints.matched_by_image(self):
            layers = joints.targets_of_each_layer(self, scores, masks, truth, metas)
            each = [
                self._losses_of(score[None], mask[None], layer) for score, mask, layer in zip(scores, masks, layers)
            ]
            return tuple(torch.cat(column) for column in zip(*each))  # type: ignore[return-value]
        return self._losses_of(scores, masks, self._match(scores, masks, truth, metas))

    @torch.no_grad()
    def _match(self, scores: Tensor, masks: Any, truth: InstanceList, metas: list[dict]) -> MaskTargets:
        with torch.autocast(scores.device.type, enabled=False):
            found = match_groups(self.assigner, self._pairs(scores.detach(), masks, truth, metas))
        inds = torch.stack([assignment.gt_inds for assignment in found])
        return targets_of_matching(inds, truth, self.num_classes)

    def _pairs(self, scores: Tensor, masks: Any, truth: InstanceList, metas: list[dict]) -> Iterator[QueryPairs]:
        """What costs compare, one layer after the other, so that no more than one is in memory."""
        size = masks[0].shape[-2:]
        seen = []
        for image in truth:
            known = image.masks.new_zeros(0, *size)
            if len(image.masks):
                known = F.interpolate(image.masks[None], size, mode='nearest')[0]
            seen.append(InstanceData(labels=image.labels, masks=known))
        gt, fields = gt_of_masks(seen), dict[str, Tensor]()
        for score, mask in zip(scores, masks):
            yield QueryPairs(gt, score, masks=as_float32(mask.detach()), metas=metas, fields=fields)

    def _losses_of(self, scores: Tensor, masks: Any, targets: MaskTargets) -> Losses:
        factor = constant(self.class_weight, scores)[targets.labels].flatten(1).sum(1)
        loss_cls = layer_losses(self.loss_cls, scores, targets.labels, targets.label_weights, factor)
        count = mean_count(targets.avg_factor)  # which all processes do, whatever they have
        pairs = zip(masks, targets.queries)
        chosen = as_float32(torch.stack([mask.flatten(0, 1)[queries] for mask, queries in pairs]))  # (L, M, h, w)
        if not chosen.shape[1]:
            nothing = chosen.flatten(1).sum(1)
            return loss_cls, nothing, nothing
        mask, dice = self._mask_losses(chosen, targets.masks)
        total = lambda value: (value * targets.weights).sum(1) / (count + torch.finfo(torch.float32).eps)
        return loss_cls, total(mask), total(dice)

    def _mask_losses(self, chosen: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``(L, M)`` mean loss of the pixels, and Dice loss, of each mask; ``chosen (L, M, h, w)`` are logits."""
        truth = torch.cat(list(masks))  # (M, H, W)
        step = max(1, PIXEL_BUDGET // max(1, len(chosen) * truth[0].numel()))
        parts = list(zip(chosen.split(step, 1), truth.split(step)))
        if len(parts) == 1 or not chosen.requires_grad:
            losses = [self._pixel_losses(*part) for part in parts]
        else:
            again = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
            losses = [again(self._pixel_losses, *part) for part in parts]
        mask, dice = (torch.cat(column, 1) for column in zip(*losses))
        return mask, dice

    def _pixel_losses(self, chosen: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`_mask_losses` of a part of the masks, whose ``truth`` is ``(m, H, W)``."""
        logits = F.interpolate(chosen, truth.shape[-2:], mode='bilinear', align_corners=False)
        inside = truth.expand(logits.shape)
        dice = self.loss_dice(logits.flatten(0, 1), inside.flatten(0, 1), reduction_override='none')
        # The one class has the label 0, background the label 1.
        labels = (1 - inside).flatten().long()
        mask = self.loss_mask(logits.reshape(-1, 1), labels, reduction_override='none')
        return mask.view(*logits.shape[:2], -1).mean(2), dice.view(logits.shape[:2])

    @by_batch
    def get_targets(
        self,
        cls_scores_list: list[Tensor],
        mask_preds_list: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        return_sampling_results: bool = False,
    ) -> tuple:
        """Targets of one layer, of ``[(Q, .)]`` by image, for research code: nothing else needs lists.

        Returns:
            Lists by image of labels, their weights, masks of the positives and weights of the masks ``(Q,)``; what the
            losses of masks are divided by; the sampling results if asked for; and what an own
            :meth:`_get_targets_single` has beyond seven values.
        """
        images = zip(cls_scores_list, mask_preds_list, batch_gt_instances, batch_img_metas)
        columns = [list(column) for column in zip(*(self._get_targets_single(*image) for image in images))]
        sampled = columns[6]
        own = [sampled] if return_sampling_results else []
        return (*columns[:4], sum(result.avg_factor for result in sampled), *own, *columns[7:])

    @by_batch
    @torch.no_grad()
    def _get_targets_single(
        self, cls_score: Tensor, mask_pred: Tensor, gt_instances: InstanceData, img_meta: dict
    ) -> tuple:
        """Labels, their weights, masks of the positives, weights of the masks, indices of positives and of negatives,
        and the sampling result of one image."""
        (pairs,) = self._pairs(cls_score[None, None], mask_pred[None, None], [gt_instances], [img_meta])
        seen = InstanceData(scores=cls_score, masks=pairs.masks[0])
        found = self.assigner.assign(pred_instances=seen, gt_instances=pairs.gt.instances[0], img_meta=img_meta)
        sampled = self.sampler.sample(assign_result=found, pred_instances=seen, gt_instances=gt_instances)
        pos, truth = sampled.pos_inds, sampled.pos_assigned_gt_inds
        labels = torch.full((len(cls_score),), self.num_classes, dtype=torch.long, device=cls_score.device)
        labels[pos] = gt_instances.labels.long()[truth]
        mask_weights = torch.zeros_like(labels, dtype=torch.float32)
        mask_weights[pos] = 1.0
        weights = torch.ones_like(mask_weights)
        return labels, weights, gt_instances.masks[truth], mask_weights, pos, sampled.neg_inds, sampled

    # -------------------------------------------------------------------------------------------- inference

    @torch.no_grad()
    def predict(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> tuple[Tensor, Tensor]:
        """Logits ``(B, Q, C + 1)`` and masks ``(B, Q, H, W)`` of the last layer, for a fusion head."""
        scores, masks = self(x, batch_data_samples)
        if is_fixed_size():
            return as_float32(scores[-1]), as_float32(masks[-1])  # which are results, too
        size = tuple(batch_data_samples[0].metainfo['batch_input_shape'])
        upsampled = F.interpolate(as_float32(masks[-1]), size, mode='bilinear', align_corners=False)
        return as_float32(scores[-1]), upsampled
