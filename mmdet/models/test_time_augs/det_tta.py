from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserValueError
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_flip

from .voting import batched_vote, within_size

MERGES = ('nms', 'vote', 'soft-vote')
FLIPS = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}


@MODELS.register_module()
class DetTTAModel(BaseTTAModel):
    """Detections of several scales and flips of an image, merged into one set.

    Args:
        tta_cfg: ``nms`` and ``max_per_img`` as in a test_cfg, and

            - ``merge``: ``'nms'`` (default), ``'vote'`` or ``'soft-vote'``, see :mod:`.voting`;
            - ``vote_thr``: overlap from which boxes vote together, 0.66;
            - ``score_thr``: lowest score that ``soft-vote`` keeps, 0.05;
            - ``scale_ranges``: for each scale of the test pipeline ``(low, high)``, the sizes (root of the area, in
              pixels of the original image) of the boxes that are kept from it. The scales have to come before the
              flips in ``TestTimeAug``.

    Masks are merged along with ``merge='nms'``; run-length codes (``mask_format='rle'``) cannot be.
    """

    def __init__(self, tta_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.tta_cfg = {} if tta_cfg is None else tta_cfg
        merge = self.tta_cfg.get('merge', 'nms')
        if merge not in MERGES:
            near = get_close_matches(str(merge), MERGES, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise UserValueError(f'tta_cfg.merge must be one of {", ".join(MERGES)}, got {merge!r}.{hint}')
        if merge == 'nms' and 'nms' not in self.tta_cfg:
            raise UserValueError(
                "tta_cfg needs 'nms', for example dict(type='nms', iou_threshold=0.5), to merge detections."
            )

    def merge_aug_bboxes(
        self, aug_bboxes: list[Tensor], aug_scores: list[Tensor] | None, img_metas: list[dict]
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Undo the flips of boxes in original-image pixels and put them, and the scores if given, in one tensor."""
        bboxes = torch.cat(
            [
                bbox_flip(bboxes, meta['ori_shape'], meta['flip_direction']) if meta.get('flip') else bboxes
                for bboxes, meta in zip(aug_bboxes, img_metas, strict=True)
            ]
        )
        return bboxes if aug_scores is None else (bboxes, torch.cat(aug_scores))

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """One data sample for each image from those of its augmented versions."""
        if any(isinstance(s.pred_instances.get('masks'), list) for samples in data_samples_list for s in samples):
            raise UserValueError(
                "test-time augmentation merges masks, not run-length codes: leave mask_format='rle' out of test_cfg."
            )
        return [self._merge_single_sample(data_samples) for data_samples in data_samples_list]

    def _merge_single_sample(self, data_samples: Sequence[DetDataSample]) -> DetDataSample:
        cfg = self.tta_cfg
        merge = cfg.get('merge', 'nms')
        with_masks = 'masks' in data_samples[0].pred_instances
        if with_masks and merge != 'nms':
            raise UserValueError(f"tta_cfg.merge={merge!r} merges boxes only; use merge='nms' for a model with masks.")
        preds = self._keep_sizes([sample.pred_instances for sample in data_samples])
        if not any(len(pred) for pred in preds):
            data_samples[0].pred_instances = preds[0]
            return data_samples[0]
        metas = [sample.metainfo for sample in data_samples]
        bboxes, scores = self.merge_aug_bboxes([p.bboxes for p in preds], [p.scores for p in preds], metas)
        labels = torch.cat([p.labels for p in preds])
        most = cfg.get('max_per_img', len(scores))
        most = len(scores) if most < 0 else most
        results = InstanceData()
        if merge == 'nms':
            from mmdet.ops import batched_nms

            dets, keep = batched_nms(bboxes, scores, labels, cfg['nms'])
            dets, keep = dets[:most], keep[:most]
            results.bboxes, results.scores, results.labels = dets[:, :4], dets[:, 4], labels[keep]
            if with_masks:
                results.masks = torch.cat([unflip(p.masks, meta) for p, meta in zip(preds, metas, strict=True)])[keep]
        else:
            merged = batched_vote(
                bboxes, scores, labels, cfg.get('vote_thr', 0.66), merge == 'soft-vote', cfg.get('score_thr', 0.05)
            )
            results.bboxes, results.scores, results.labels = (part[:most] for part in merged)
        data_samples[0].pred_instances = results
        return data_samples[0]

    def _keep_sizes(self, preds: list[InstanceData]) -> list[InstanceData]:
        ranges = self.tta_cfg.get('scale_ranges')
        if ranges is None:
            return preds
        if len(preds) % len(ranges):
            raise UserValueError(
                f'tta_cfg.scale_ranges has {len(ranges)} ranges, but the pipeline makes {len(preds)} versions of an '
                'image: it takes one range for each scale.'
            )
        flips = len(preds) // len(ranges)
        return [pred[within_size(pred.bboxes, *ranges[i // flips])] for i, pred in enumerate(preds)]


def unflip(masks: Tensor, meta: dict) -> Tensor:
    """Masks (N, H, W) of a flipped image as they lie in the image itself."""
    return masks.flip(FLIPS[meta['flip_direction']]) if meta.get('flip') else masks
