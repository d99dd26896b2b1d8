"""The vocabulary of heads that predict at every location of a feature pyramid.

Letters: B images, P priors of all levels, K candidates kept, C classes, A priors per location.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, constant_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    Assignment,
    DenseTargets,
    PaddedGT,
    PriorCache,
    Priors,
    TestCfg,
    best_candidates,
    by_batch,
    detections,
    image_detections,
    image_shapes,
    in_float32,
    multi_apply,
    per_level,
    split_levels,
    unpack_gt_instances,
)
from mmdet.models.task_modules.joints import assign_images, sample_images
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig

from . import joints


class BaseDenseHead(BaseModule, metaclass=ABCMeta):
    """Base of dense heads.

    Training: :meth:`loss` calls ``self(x)``, then :meth:`loss_by_feat`. Inference: :meth:`predict` calls ``self(x)``,
    then :meth:`predict_by_feat`, which keeps the best ``nms_pre`` candidates of each level for the whole batch, decodes
    these alone and suppresses overlaps image by image.

    A head has ``prior_generator``, ``bbox_coder``, ``cls_out_channels`` and ``test_cfg``.
    """

    reg_dim = 4
    """Channels of the box branch for each prior."""

    encodes_targets = False
    """Whether box targets are what the coder makes of boxes, not the boxes."""

    conv_bias: bool | str = 'auto'
    dcn_on_last_conv = False

    nms_groups = 'labels'
    """Detections suppress each other where they agree in this: 'labels' or 'level_ids'."""

    def __init__(self, init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self._raw_positive_infos: dict = {}
        self._grids = PriorCache()

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if hasattr(module, 'conv_offset'):
                constant_init(module.conv_offset, 0)  # init_cfg of the layer type would move the sampling points

    def _tower_layer(self, i: int) -> nn.Module:
        """Convolution ``i`` of a tower, the last one deformable (DCNv2) if so configured."""
        last = self.dcn_on_last_conv and i == self.stacked_convs - 1
        return ConvModule(
            self.feat_channels if i else self.in_channels,
            self.feat_channels,
            3,
            padding=1,
            conv_cfg=dict(type='DCNv2') if last else self.conv_cfg,
            norm_cfg=self.norm_cfg,
            bias=self.conv_bias,
        )

    def _tower(self) -> nn.Sequential:
        """``stacked_convs`` convolutions."""
        return nn.Sequential(*(self._tower_layer(i) for i in range(self.stacked_convs)))

    def _towers(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Two towers, made layer by layer in turn: with the same seed the same random weights as in 3.x."""
        pairs = [(self._tower_layer(i), self._tower_layer(i)) for i in range(self.stacked_convs)]
        return nn.Sequential(*(a for a, _ in pairs)), nn.Sequential(*(b for _, b in pairs))

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """What ``forward_single`` gives for every level: a list by level of each of its values."""
        return multi_apply(self.forward_single, x)

    def _priors(self, maps: Sequence[Tensor], metas: Sequence[dict] | None = None, generator: Any = None) -> Priors:
        """Priors of level maps ``[(B, *, H, W)]``; all of them are valid unless ``metas`` give a ``pad_shape``.

        Args:
            generator: In place of the head's ``prior_generator``.
        """
        generator = self.prior_generator if generator is None else generator
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in maps)
        pads = None if metas is None else tuple(tuple(meta['pad_shape'][:2]) for meta in metas)
        key = generator, sizes, pads, str(maps[0].device)
        return self._grids.get(key, lambda: self._make_priors(sizes, pads, maps[0].device, generator))

    def _make_priors(
        self, sizes: Sequence[tuple], pads: tuple | None, device: torch.device | str, generator: Any = None, **options
    ) -> Priors:
        generator = self.prior_generator if generator is None else generator
        levels = [get_box_tensor(level) for level in generator.grid_priors(sizes, device=device, **options)]
        if pads is None:
            valid = torch.ones(1, sum(level.shape[0] for level in levels), dtype=torch.bool, device=levels[0].device)
        else:
            valid = torch.stack([torch.cat(generator.valid_flags(sizes, pad, device)) for pad in pads])
        strides = [stride[0] if isinstance(stride, (tuple, list)) else stride for stride in generator.strides]
        return Priors(torch.cat(levels)[None], valid, [level.shape[0] for level in levels], strides)

    def _assign(
        self, assigner, priors: Priors, gt: PaddedGT, predictions: dict | None = None, options: dict | None = None
    ) -> Assignment:
        """Assign a batch; ``predictions`` and ``options`` are what the rule compares, and how, beside the priors."""
        predictions, options = predictions or {}, options or {}
        if hasattr(assigner.assign, 'by_batch'):
            return assigner.assign_batch(priors, gt, **predictions, **options)
        return assign_images(assigner, priors, gt, options, **predictions)

    def _draw(
        self, priors: Priors, assignment: Assignment, gt: PaddedGT, sampler: Any = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """``(B, P)`` bool of the positives and negatives of a sampler, the head's by default; None where it takes what
        the assignment says."""
        sampler = self.sampler if sampler is None else sampler
        if isinstance(sampler, PseudoSampler) and hasattr(sampler.sample, 'by_batch'):
            return None, None
        if getattr(sampler, 'by_image', True):
            return sample_images(sampler, priors, assignment, gt)
        return sampler.masks(assignment, gt)

    def _build_targets(
        self, priors: Priors, assignment: Assignment, gt: PaddedGT, train_cfg: ConfigType | None = None
    ) -> DenseTargets:
        """Targets of an assignment; ``train_cfg`` in place of the head's own where it has several."""
        train_cfg = self.train_cfg if train_cfg is None else train_cfg
        pos, neg = self._draw(priors, assignment, gt)
        return DenseTargets.build(
            assignment,
            gt,
            self.num_classes,
            pos=pos,
            neg=neg,
            pos_weight=train_cfg.get('pos_weight', -1),
            priors=priors.boxes if self.encodes_targets else None,
            coder=self.bbox_coder,
            count_negatives=self.sampler.avg_factor_with_neg,
            level_sizes=priors.level_sizes,
        )

    @property
    def counts_by_level(self) -> bool:
        """Whether a loss takes its statistics level by level, as GHM does."""
        return any(getattr(loss, 'by_level', False) for loss in self.children())

    def _loss(self, loss: nn.Module, sizes: Sequence[int], *fields: Tensor, **options) -> Tensor:
        """``loss`` of fields ``(B, P, ...)``; the sum over levels of ``sizes`` priors where it counts by level."""
        if not getattr(loss, 'by_level', False):
            return loss(*(field.flatten(0, 1) for field in fields), **options)
        levels = zip(*(split_levels(field, sizes) for field in fields))
        return sum(loss(*(field.flatten(0, 1) for field in level), **options) for level in levels)

    def get_positive_infos(self) -> InstanceList | None:
        """What the last :meth:`loss_by_feat` knew of its positives, for heads that build on them."""
        return self._raw_positive_infos.pop('positive_infos', None)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: Sequence) -> dict:
        """Losses of feature maps ``[(B, C, H, W)]``."""
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        return self.loss_by_feat(*self(x), gt_instances, metas, ignored)

    def loss_by_feat(self, *args, **kwargs) -> dict:
        """Losses of the head's own outputs, then ground truths, meta information and ignored regions of each image."""
        raise NotImplementedError(f'{type(self).__name__} has no loss_by_feat')

    def loss_and_predict(
        self, x: tuple[Tensor, ...], batch_data_samples: Sequence, proposal_cfg: ConfigType | None = None
    ) -> tuple[dict, InstanceList]:
        """Losses, and detections of the same outputs as proposals."""
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        outs = self(x)
        losses = self.loss_by_feat(*outs, gt_instances, metas, ignored)
        # A head has too few outputs to reach the arguments given by name.
        return losses, self.predict_by_feat(*outs, batch_img_metas=metas, cfg=proposal_cfg)  # type: ignore[misc]

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: Sequence, rescale: bool = False) -> InstanceList:
        """Detections of each image; in pixels of the original image if ``rescale``."""
        metas = [sample.metainfo for sample in batch_data_samples]
        return in_float32(self.predict_by_feat)(*self(x), batch_img_metas=metas, rescale=rescale)

    @torch.no_grad()
    @in_float32
    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] = None,  # type: ignore[assignment]  # noqa: RUF013
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image: ``bboxes (n, 4)``, ``scores (n,)``, ``labels (n,)``, best first.

        Args:
            cls_scores: ``[(B, A * C, H, W)]`` logits.
            bbox_preds: ``[(B, A * reg_dim, H, W)]``.
            score_factors: ``[(B, A, H, W)]`` logits whose sigmoid multiplies the scores, such as centerness.
            batch_img_metas: Needed; it has a default, as in 3.x, for it follows an optional argument.
        """
        cfg = self.test_cfg if cfg is None else cfg
        outputs = cls_scores, bbox_preds, score_factors, self._priors(cls_scores)
        if hasattr(self._predict_by_feat_single, 'by_batch'):
            return self._predict_batch(*outputs, batch_img_metas, cfg, rescale, with_nms)
        return joints.detections_of_each_image(self, *outputs, batch_img_metas, cfg, rescale, with_nms)

    @by_batch
    def _predict_by_feat_single(
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        score_factor_list: list[Tensor | None],
        mlvl_priors: list[Tensor],
        img_meta: dict,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Detections of one image, whose maps are ``(A * C, H, W)``."""
        priors = [get_box_tensor(level) for level in mlvl_priors]
        valid = torch.ones(1, sum(map(len, priors)), dtype=torch.bool, device=priors[0].device)
        return self._predict_batch(
            [score[None] for score in cls_score_list],
            [pred[None] for pred in bbox_pred_list],
            [factor[None] for factor in score_factor_list if factor is not None] or None,
            Priors(torch.cat(priors)[None], valid, [len(level) for level in priors]),
            [img_meta],
            self.test_cfg if cfg is None else cfg,
            rescale,
            with_nms,
        )[0]

    def _predict_batch(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        score_factors: Sequence[Tensor] | None,
        priors: Priors,
        metas: list[dict],
        cfg: ConfigType,
        rescale: bool,
        with_nms: bool,
    ) -> InstanceList:
        test_cfg = TestCfg.read(cfg)
        fields = self._candidates(cls_scores, bbox_preds, score_factors, priors, metas, test_cfg)
        if hasattr(self._bbox_post_process, 'by_batch'):
            return self._results(fields, test_cfg, metas, rescale, with_nms)
        return joints.post_process_each_image(self, fields, test_cfg.score_thr, metas, cfg, rescale, with_nms)

    def _candidates(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        score_factors: Sequence[Tensor] | None,
        priors: Priors,
        metas: list[dict],
        test_cfg: TestCfg,
    ) -> dict[str, Tensor]:
        """Decoded fields ``(B, K, ...)`` of the best candidates of all levels."""
        fields, sizes = best_candidates(
            cls_scores,
            bbox_preds,
            score_factors,
            priors,
            self.cls_out_channels,
            test_cfg.nms_pre,
            self._activate,
            self._is_monotonic(),
        )
        fields.update(self._decode(fields.pop('priors'), fields.pop('preds'), sizes, image_shapes(metas)))
        return fields

    def _results(
        self, fields: dict, test_cfg: TestCfg, metas: list[dict], rescale: bool, with_nms: bool
    ) -> InstanceList:
        return detections(fields, test_cfg, metas, rescale, with_nms, self.nms_groups)

    def _activate(self, logits: Tensor) -> Tensor:
        """Logits ``(..., cls_out_channels)`` to scores of the C classes."""
        if getattr(self.loss_cls, 'custom_cls_channels', False):
            return self.loss_cls.get_activation(logits)
        return logits.sigmoid() if self.use_sigmoid_cls else logits.softmax(-1)[..., :-1]

    def _is_monotonic(self) -> bool:
        return self.use_sigmoid_cls and not getattr(self.loss_cls, 'custom_cls_channels', False)

    def _decode(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> dict:
        """Fields ``(B, K, ...)`` of the results that predictions give: the boxes, for most heads."""
        return dict(bboxes=self._decode_boxes(priors, preds, sizes, shapes))

    def _decode_boxes(self, priors: Tensor, preds: Tensor, sizes: list[int], shapes: list[tuple[int, int]]) -> Tensor:
        """xyxy boxes ``(B, K, 4)`` of predictions ``(B, K, reg_dim)``, clipped to ``shapes``.

        Args:
            sizes: Candidates of each level along K, see :meth:`_candidate_strides`.
        """
        return self.bbox_coder.decode(priors, preds, max_shape=shapes)

    def _candidate_strides(self, sizes: list[int], like: Tensor) -> Tensor:
        """``(K, 1)`` stride of each candidate's level."""
        strides = [
            stride[0] if isinstance(stride, (tuple, list)) else stride for stride in self.prior_generator.strides
        ]
        return per_level(strides, sizes, like)[:, None]

    @by_batch
    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Detections of one image from candidates: ``bboxes``, ``scores``, ``labels``, maybe ``score_factors``."""
        image, meta = dict(results.items()), (img_meta or {}) if rescale else None
        return image_detections(image, TestCfg.read(cfg), meta, with_nms, self.nms_groups)
