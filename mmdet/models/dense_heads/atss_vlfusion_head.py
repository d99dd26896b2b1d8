"""The head of GLIP (arXiv:2112.03857): ATSS, whose classes are the words of a text.

Letters: B images, P anchors of all levels, T tokens of a text, D channels of a token, C those of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    Priors,
    TestCfg,
    by_batch,
    flatten_outputs,
    in_float32,
    mean_count,
    split_levels,
    unpack_gt_instances,
)
from mmdet.models.core.token_maps import TokenMap, class_scores, token_targets
from mmdet.models.layers.dynamic_head import dynamic_levels, dynamic_relu
from mmdet.models.layers.vision_language import BertEncoderLayer, VLFuse, clamp_values, permute_and_flatten
from mmdet.ops import ModulatedDeformConv2d
from mmdet.registry import MODELS
from mmdet.structures.bbox import with_ends_moved
from mmdet.utils import InstanceList, OptConfigType, OptInstanceList, reduce_mean
from mmdet.utils.tokenizers import load_bert_config

from .atss_head import ATSSHead


def convert_grounding_to_cls_scores(logits: Tensor, positive_maps: Sequence[TokenMap]) -> Tensor:
    """``(B, P, N)`` the mean over the tokens of each of N names, of ``logits (B, P, T)``; images with fewer names have
    zeros for the others."""
    if len(positive_maps) != len(logits):
        raise UserValueError(f'{len(positive_maps)} positive maps for {len(logits)} images')
    if all(own == positive_maps[0] for own in positive_maps):
        return class_scores(logits, positive_maps[0])
    count = max(max(own, default=0) for own in positive_maps)
    each = [class_scores(image, own) for image, own in zip(logits, positive_maps)]
    return torch.stack([F.pad(scores, (0, count - scores.shape[-1])) for scores in each])


def _with_last_pixel(boxes: Tensor) -> Tensor:
    """Anchors that end with their last pixel, not after it, as those that the published models were trained with."""
    return with_ends_moved(boxes, -1)


class Conv3x3Norm(nn.Module):
    """A 3x3 convolution, deformable (DCNv2) with ``use_dcn``, and a norm.

    Args:
        norm_type: 'bn', ('gn', groups), or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        groups: int = 1,
        use_dcn: bool = False,
        norm_type: Sequence | str | None = None,
    ) -> None:
        super().__init__()
        kind = ModulatedDeformConv2d if use_dcn else nn.Conv2d
        self.conv = kind(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups)
        name = norm_type if isinstance(norm_type, str) or norm_type is None else norm_type[0]
        self.bn: nn.Module | None = None
        if name == 'bn':
            self.bn = nn.BatchNorm2d(out_channels)
        elif name == 'gn' and isinstance(norm_type, (list, tuple)):
            self.bn = nn.GroupNorm(norm_type[1], out_channels)
        elif name is not None:
            raise UserValueError(f"norm_type must be 'bn', ('gn', groups) or None, got {norm_type!r}")

    def forward(self, x: Tensor, **kwargs: Tensor) -> Tensor:
        """``(B, out_channels, H, W)``; ``kwargs`` are the offsets and the mask of a deformable convolution."""
        x = self.conv(x, **kwargs)
        return x if self.bn is None else self.bn(x)


class DyReLU(nn.Module):
    """Each channel is the larger of two lines that the image decides (arXiv:2003.10027)."""

    def __init__(self, in_channels: int, out_channels: int, expand_ratio: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.expand_ratio = expand_ratio
        self.out_channels = out_channels
        self.fc = nn.Sequential(
            nn.Linear(in_channels, in_channels // expand_ratio),
            nn.ReLU(inplace=True),
            nn.Linear(in_channels // expand_ratio, out_channels * expand_ratio),
            nn.Hardsigmoid(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` of the same shape."""
        return dynamic_relu(x, self.fc(self.avg_pool(x).flatten(1))[..., None, None])


class DyConv(nn.Module):
    """A block of the dynamic head (arXiv:2106.08322) on the maps ``visual`` of a dict, whose ``lang`` it hands on.

    Args:
        conv_func: Makes a convolution of its channels and its stride.
        use_dyfuse: Whether levels are weighed by what the image shows.
        use_dyrelu: Whether a :class:`DyReLU` follows, not a ReLU.
        use_dcn: Whether ``conv_func`` makes deformable ones.
    """

    def __init__(
        self,
        conv_func: Callable[[int, int, int], nn.Module],
        in_channels: int,
        out_channels: int,
        use_dyfuse: bool = True,
        use_dyrelu: bool = False,
        use_dcn: bool = False,
    ) -> None:
        super().__init__()
        self.dyconvs = nn.ModuleList([conv_func(in_channels, out_channels, stride) for stride in (1, 1, 2)])
        self.attnconv: nn.Module | None = None
        if use_dyfuse:
            pool = nn.AdaptiveAvgPool2d(1)
            self.attnconv = nn.Sequential(pool, nn.Conv2d(in_channels, 1, 1), nn.ReLU(inplace=True))
            self.h_sigmoid = nn.Hardsigmoid()
        self.relu = DyReLU(in_channels, out_channels) if use_dyrelu else nn.ReLU()
        self.offset = nn.Conv2d(in_channels, 27, 3, padding=1) if use_dcn else None
        self.init_weights()

    def init_weights(self) -> None:
        """Small weights for the convolutions of levels and for what weighs them."""
        for part in (self.dyconvs, self.attnconv):
            for module in part.modules() if part is not None else ():
                if isinstance(module, (nn.Conv2d, ModulatedDeformConv2d)):
                    nn.init.normal_(module.weight, std=0.01)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def _weight(self, view: Tensor) -> Tensor | float:
        return 1.0 if self.attnconv is None else self.h_sigmoid(self.attnconv(view))

    def forward(self, inputs: dict) -> dict:
        """Maps ``visual`` of all levels, of the same."""
        high, mid, low = self.dyconvs
        maps = dynamic_levels(inputs['visual'], self.offset, high, mid, low, self._weight)
        return dict(visual=[self.relu(level) for level in maps], lang=inputs['lang'])


class VLFusionModule(BaseModel):
    """Blocks of the dynamic head, with ``early_fuse`` each after a fusion of picture and text and a layer for the text;
    then boxes, centerness, and the products of cells and tokens (Sec. 3.1 and 3.2).

    Args:
        num_dyhead_blocks: How many.
        lang_model_name: Of a BERT, whose sizes the layers for the text have.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        num_base_priors: int,
        early_fuse: bool = False,
        num_dyhead_blocks: int = 6,
        lang_model_name: str = 'bert-base-uncased',
        use_dyrelu: bool = True,
        use_dyfuse: bool = True,
        use_dcn: bool = True,
        use_checkpoint: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.feat_channels = feat_channels
        self.num_base_priors = num_base_priors
        self.early_fuse = early_fuse
        self.num_dyhead_blocks = num_dyhead_blocks
        self.use_dyrelu = use_dyrelu
        self.use_dyfuse = use_dyfuse
        self.use_dcn = use_dcn
        self.use_checkpoint = use_checkpoint
        self.lang_cfg = load_bert_config(lang_model_name)
        self.lang_dim = self.lang_cfg.hidden_size
        self._init_layers()

    def _init_layers(self) -> None:
        conv = lambda i, o, stride: Conv3x3Norm(i, o, stride, use_dcn=self.use_dcn, norm_type=('gn', 16))
        tower: list[nn.Module] = []
        for channels in [self.in_channels] + [self.feat_channels] * (self.num_dyhead_blocks - 1):
            if self.early_fuse:
                tower.append(VLFuse(channels, self.lang_dim, use_checkpoint=self.use_checkpoint))
                tower.append(BertEncoderLayer(self.lang_cfg, True, True))
            same = channels == self.feat_channels  # what the image decides keeps the number of channels
            options = self.use_dyfuse and same, self.use_dyrelu and same, self.use_dcn
            tower.append(DyConv(conv, channels, self.feat_channels, *options))
        self.dyhead_tower = nn.Sequential(*tower)
        self.bbox_pred = nn.Conv2d(self.feat_channels, self.num_base_priors * 4, 1)
        self.centerness = nn.Conv2d(self.feat_channels, self.num_base_priors, 1)
        self.dot_product_projection_text = nn.Linear(self.lang_dim, self.num_base_priors * self.feat_channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(self.lang_dim))
        self.bias0 = nn.Parameter(torch.tensor([-math.log(99.0)]))  # so that few tokens fit at the start
        self.scales = nn.ModuleList([Scale(1.0) for _ in range(5)])

    def forward(
        self, visual_feats: Sequence[Tensor], language_feats: dict
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of each level boxes ``(B, A * 4, H, W)``, centerness ``(B, A, H, W)`` and logits ``(B, H * W * A, T)``."""
        out = self.dyhead_tower(dict(visual=list(visual_feats), lang=language_feats))
        embedding = out['lang']['hidden'] if self.early_fuse else language_feats['embedded']
        embedding = F.normalize(embedding, dim=-1)
        tokens = self.dot_product_projection_text(embedding / 2)
        bias = (embedding @ self.bias_lang + self.bias0)[:, None]
        boxes, centerness, logits = [], [], []
        for level, scale in zip(out['visual'], self.scales):
            boxes.append(scale(self.bbox_pred(level)))
            centerness.append(self.centerness(level))
            batch, channels, height, width = level.shape
            cells = permute_and_flatten(level, batch, self.num_base_priors, channels, height, width)
            logits.append(clamp_values(cells @ tokens.transpose(-1, -2) / self.log_scale.exp() + bias))
        return boxes, centerness, logits


@MODELS.register_module()
class ATSSVLFusionHead(ATSSHead):
    """ATSS whose scores are those of tokens. Ground truths have ``positive_maps (g, T)``, the tokens of their names.

    Args:
        early_fuse: Whether picture and text see each other in the head (GLIP-B and larger).
        use_checkpoint: Whether activations of the fusion are computed again in the backward pass.
        num_dyhead_blocks: Blocks of the dynamic head.
        lang_model_name: Of the BERT whose texts these are.
    """

    def __init__(
        self,
        *args: Any,
        early_fuse: bool = False,
        use_checkpoint: bool = False,
        num_dyhead_blocks: int = 6,
        lang_model_name: str = 'bert-base-uncased',
        init_cfg: OptConfigType = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, init_cfg=init_cfg, **kwargs)  # type: ignore[misc]  # mypy counts the positional ones
        self.head = VLFusionModule(
            in_channels=self.in_channels,
            feat_channels=self.feat_channels,
            num_base_priors=self.num_base_priors,
            early_fuse=early_fuse,
            use_checkpoint=use_checkpoint,
            num_dyhead_blocks=num_dyhead_blocks,
            lang_model_name=lang_model_name,
        )
        self.text_masks: Tensor | None = None

    def _init_layers(self) -> None:
        """None of its own: :class:`VLFusionModule` has them."""

    def forward(  # type: ignore[override]
        self, visual_feats: Sequence[Tensor], language_feats: dict
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of each level logits of tokens, boxes and centerness, see :class:`VLFusionModule`."""
        boxes, centerness, logits = self.head(visual_feats, language_feats)
        return logits, boxes, centerness

    # --------------------------------------------------------------------------------------------- training

    def loss(  # type: ignore[override]
        self, visual_feats: Sequence[Tensor], language_feats: dict, batch_data_samples: Sequence
    ) -> dict:
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        outs = self(visual_feats, language_feats)
        self.text_masks = language_feats['masks']
        return self.loss_by_feat(*(*outs, gt_instances, metas, ignored))

    def loss_by_feat(  # type: ignore[override]
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict:
        """Losses of ``[(B, H * W * A, T)]``, ``[(B, A * 4, H, W)]`` and ``[(B, A, H, W)]``, without
        tokens of padding."""
        anchors, targets = self._anchors_and_targets(
            bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        preds, centerness = flatten_outputs((bbox_preds, self.reg_dim), (centernesses, 1))
        logits = torch.cat(cls_scores, 1)
        known = targets.labels, targets.label_weights, targets.bbox_targets, reduce_mean(targets.avg_factor)
        losses = self._loss_by_feat(anchors, logits, preds, centerness, *known)
        loss_cls, loss_bbox, loss_centerness, quality = losses
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox / mean_count(quality), loss_centerness=loss_centerness)

    def _targets(self, priors: Priors, gt: PaddedGT, metas: list[dict]) -> DenseTargets:
        priors = Priors(_with_last_pixel(priors.boxes), priors.valid, priors.level_sizes, priors.strides)
        return super()._targets(priors, gt, metas)

    def _build_targets(
        self, priors: Priors, assignment: Assignment, gt: PaddedGT, train_cfg: OptConfigType = None
    ) -> DenseTargets:
        targets = super()._build_targets(priors, assignment, gt, train_cfg)
        targets.labels = token_targets(targets, gt)
        return targets

    @by_batch
    def _get_targets_single(self, flat_anchors: Tensor, *args: Any, **kwargs: Any) -> tuple:  # type: ignore[override]
        """As ATSS's, with labels ``(P, T)``."""
        return super()._get_targets_single(_with_last_pixel(flat_anchors), *args, **kwargs)

    def _loss_by_feat(
        self,
        anchors: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        centerness: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        avg_factor: Tensor,
    ) -> tuple[Tensor, ...]:
        """Losses of the whole pyramid, ``(B, P, .)``, of which ``labels (B, P, T)``, and the sum of centerness."""
        assert self.text_masks is not None, 'loss() says which tokens exist'
        weight = label_weights[..., None] * (self.text_masks > 0)[:, None]
        each = (value.flatten(0, 1) for value in (cls_score, labels, weight))
        pos = labels.sum(-1) > 0
        targets = DenseTargets(labels, label_weights, bbox_targets, pos[..., None].to(anchors), pos, avg_factor)
        return self.loss_cls(*each, avg_factor=avg_factor), *self._box_losses(
            bbox_pred, centerness, anchors, targets, avg_factor
        )

    def centerness_target(self, anchors: Tensor, gts: Tensor) -> Tensor:
        return super().centerness_target(_with_last_pixel(anchors), gts)

    # -------------------------------------------------------------------------------------------- inference

    def predict(  # type: ignore[override]
        self,
        visual_feats: Sequence[Tensor],
        language_feats: dict,
        batch_data_samples: Sequence,
        rescale: bool = True,
    ) -> InstanceList:
        """Detections of each image; a sample's ``token_positive_map`` has the tokens of each label."""
        metas = [sample.metainfo for sample in batch_data_samples]
        maps = [sample.get('token_positive_map') for sample in batch_data_samples]
        outs = self(visual_feats, language_feats)
        return in_float32(self.predict_by_feat)(
            *outs, batch_img_metas=metas, batch_token_positive_maps=maps, rescale=rescale
        )

    @torch.no_grad()
    def predict_by_feat(  # type: ignore[override]
        self,
        cls_logits: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor],
        batch_img_metas: list[dict] | None = None,
        batch_token_positive_maps: Sequence[TokenMap] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """As ATSS's, of logits ``[(B, H * W * A, T)]``; scores are the roots of class score times centerness.

        Args:
            batch_token_positive_maps: Tokens of each label, which counts from 1.
        """
        priors = self._priors(bbox_preds)
        grids = [level[0] for level in split_levels(priors.boxes, priors.level_sizes)]
        results = []
        for index, (meta, tokens) in enumerate(zip(batch_img_metas or (), batch_token_positive_maps or ())):
            maps = ([level[index] for level in levels] for levels in (bbox_preds, score_factors, cls_logits))
            results.append(self._predict_by_feat_single(*maps, grids, tokens, meta, cfg, rescale, with_nms))
        return results

    @by_batch
    def _predict_by_feat_single(  # type: ignore[override]
        self,
        bbox_pred_list: list[Tensor],
        score_factor_list: list[Tensor],
        cls_logit_list: list[Tensor],
        mlvl_priors: list[Tensor],
        token_positive_maps: TokenMap,
        img_meta: dict,
        cfg: OptConfigType,
        rescale: bool = True,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, by level boxes ``(A * 4, H, W)``, centerness ``(A, H, W)``, logits ``(P, T)`` and
        anchors ``(P, 4)``."""
        test_cfg = TestCfg.read(self.test_cfg if cfg is None else cfg)
        levels = zip(bbox_pred_list, score_factor_list, cls_logit_list, mlvl_priors)
        parts = [self._best_of_level(*level, token_positive_maps, test_cfg) for level in levels]
        preds, factors, scores, labels, priors = (torch.cat(column) for column in zip(*parts))
        boxes = self.bbox_coder.decode(priors, preds, max_shape=img_meta['img_shape'])
        results = InstanceData(bboxes=boxes, scores=(scores * factors).sqrt(), labels=labels)
        results = self._bbox_post_process(results, cfg or self.test_cfg, rescale, with_nms, img_meta)
        # The coder's boxes end with their last pixel, these after it.
        results.bboxes = with_ends_moved(results.bboxes, 1)
        return results

    def _best_of_level(
        self, pred: Tensor, factor: Tensor, logits: Tensor, anchors: Tensor, tokens: TokenMap | None, test_cfg: TestCfg
    ) -> tuple[Tensor, ...]:
        """Deltas, centerness, scores, labels and anchors ``(K, .)`` of the best pairs of anchor and name."""
        scores = logits.sigmoid()
        scores = scores.amax(-1, keepdim=True) if tokens is None else class_scores(scores, tokens)
        names, flat = scores.shape[-1], scores.flatten()
        count = min(test_cfg.nms_pre, len(flat)) if test_cfg.nms_pre > 0 else len(flat)
        best, index = flat.topk(count)
        index = index[best > test_cfg.score_thr]
        rows = index // names
        pred, factor = flatten_outputs(([pred[None]], self.reg_dim), ([factor[None]], 1))
        return pred[0, rows], factor[0, rows, 0].sigmoid(), flat[index], index % names, anchors[rows]
