"""The vocabulary of heads that predict at every location of a feature pyramid.

Letters: B images, P priors of all levels, K candidates kept, C classes, A priors per location.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, constant_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.models.core import (
    TestCfg,
    by_batch,
    gather_rows,
    image_results,
    image_shapes,
    map_sizes,
    overridden,
    per_level,
    rescale_results,
    select_single_mlvl,
    select_topk,
    suppress,
    unpack_gt_instances,
)
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig


class BaseDenseHead(BaseModule, metaclass=ABCMeta):
    """Base of dense heads.

    Training: :meth:`loss` calls ``self(x)``, then :meth:`loss_by_feat`. Inference: :meth:`predict` calls ``self(x)``,
    then :meth:`predict_by_feat`, which keeps the best ``nms_pre`` candidates of each level for the whole batch, decodes
    these alone and suppresses overlaps image by image.

    A head has ``prior_generator``, ``bbox_coder``, ``cls_out_channels`` and ``test_cfg``.
    """

    reg_dim = 4
    """Channels of the box branch for each prior."""

    conv_bias: bool | str = 'auto'
    dcn_on_last_conv = False

    def __init__(self, init_cfg: OptMultiConfig = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self._raw_positive_infos: dict = {}

    def init_weights(self) -> None:
        super().init_weights()
        for module in self.modules():
            if hasattr(module, 'conv_offset'):
                constant_init(module.conv_offset, 0)  # init_cfg of the layer type would move the sampling points

    def _tower(self) -> nn.ModuleList:
        """``stacked_convs`` convolutions, the last one deformable (DCNv2) if so configured."""
        widths = [self.in_channels, *[self.feat_channels] * self.stacked_convs]
        kinds = [self.conv_cfg] * self.stacked_convs
        if self.dcn_on_last_conv and kinds:
            kinds[-1] = dict(type='DCNv2')
        options = dict(padding=1, norm_cfg=self.norm_cfg, bias=self.conv_bias)
        return nn.ModuleList(
            ConvModule(a, b, 3, conv_cfg=kind, **options) for a, b, kind in zip(widths, widths[1:], kinds)
        )

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
        return losses, self.predict_by_feat(*outs, batch_img_metas=metas, cfg=proposal_cfg)

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: Sequence, rescale: bool = False) -> InstanceList:
        """Detections of each image; in pixels of the original image if ``rescale``."""
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_by_feat(*self(x), batch_img_metas=metas, rescale=rescale)

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfigType = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceList:
        """Detections of each image: ``bboxes (n, 4)``, ``scores (n,)``, ``labels (n,)``, best first.

        Args:
            cls_scores: ``[(B, A * C, H, W)]`` logits.
            bbox_preds: ``[(B, A * reg_dim, H, W)]``.
            score_factors: ``[(B, A, H, W)]`` logits whose sigmoid multiplies the scores, such as centerness.
        """
        device, dtype = cls_scores[0].device, cls_scores[0].dtype
        priors = self.prior_generator.grid_priors(map_sizes(cls_scores), dtype=dtype, device=device)
        cfg = self.test_cfg if cfg is None else cfg
        if not overridden(self, '_predict_by_feat_single'):
            return self._predict_batch(
                cls_scores, bbox_preds, score_factors, priors, batch_img_metas, cfg, rescale, with_nms
            )
        return [
            self._predict_by_feat_single(
                cls_score_list=select_single_mlvl(cls_scores, i),
                bbox_pred_list=select_single_mlvl(bbox_preds, i),
                score_factor_list=[None] * len(cls_scores)
                if score_factors is None
                else select_single_mlvl(score_factors, i),
                mlvl_priors=priors,
                img_meta=meta,
                cfg=cfg,
                rescale=rescale,
                with_nms=with_nms,
            )
            for i, meta in enumerate(batch_img_metas)
        ]

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
        factors = None if score_factor_list[0] is None else [factor[None] for factor in score_factor_list]
        return self._predict_batch(
            [score[None] for score in cls_score_list],
            [pred[None] for pred in bbox_pred_list],
            factors,
            mlvl_priors,
            [img_meta],
            cfg,
            rescale,
            with_nms,
        )[0]

    def _predict_batch(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None,
        mlvl_priors: list[Tensor],
        metas: list[dict],
        cfg: OptConfigType,
        rescale: bool,
        with_nms: bool,
    ) -> InstanceList:
        cfg = self.test_cfg if cfg is None else cfg
        test_cfg = TestCfg.read(cfg)
        levels = []
        for i, (cls_score, bbox_pred, priors) in enumerate(zip(cls_scores, bbox_preds, mlvl_priors)):
            scores, labels, index = select_topk(
                cls_score, self.cls_out_channels, test_cfg.nms_pre, self._activate, self._is_monotonic()
            )
            level = dict(scores=scores, labels=labels, level_ids=torch.full_like(labels, i))
            num_priors = cls_score.shape[1] // self.cls_out_channels
            level['preds'] = gather_rows(bbox_pred, index, bbox_pred.shape[1] // num_priors)
            level['priors'] = (
                priors[index]
                if priors.dim() == 2
                else priors.gather(1, index[..., None].expand(-1, -1, priors.shape[-1]))
            )
            if score_factors is not None:
                level['score_factors'] = gather_rows(score_factors[i], index, 1)[..., 0].sigmoid()
            levels.append(level)
        sizes = [level['scores'].shape[1] for level in levels]
        fields = {name: torch.cat([level[name] for level in levels], 1) for name in levels[0]}
        priors, preds = fields.pop('priors'), fields.pop('preds')
        fields.update(self._decode(priors, preds, sizes, image_shapes(metas)))
        return [
            self._bbox_post_process(results, cfg, rescale=rescale, with_nms=with_nms, img_meta=meta)
            for results, meta in zip(image_results(fields, test_cfg.score_thr), metas)
        ]

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

    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigType,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Detections of one image from candidates: ``bboxes``, ``scores``, ``labels``, maybe ``score_factors``."""
        if rescale:
            results = rescale_results(results, img_meta)
        if 'score_factors' in results:
            results.scores = results.scores * results.pop('score_factors')
        results.pop('level_ids', None)
        return suppress(results, TestCfg.read(cfg), with_nms)
