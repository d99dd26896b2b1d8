from __future__ import annotations

from collections.abc import Sequence

import torch

from mmdet.errors import UserValueError
from mmdet.models.core import Assignment, PaddedGT, Priors, by_batch, per_level
from mmdet.registry import TASK_UTILS

from .atss_assigner import MARGIN
from .base_assigner import BaseAssigner, in_ignored_region
from .point_assigners import INF, space_scale_match


@TASK_UTILS.register_module()
class SpaceScaleAssigner(BaseAssigner):
    """FCOS's rule for anchors (ATSS, arXiv:1912.02424, Sec. 3.2): centre inside, box in the level's range of sizes.

    Args:
        regress_ranges: Lowest and highest distance in pixels of the farthest side from the anchor's centre, by level.
        ignore_iof_thr: Priors covered by ignored regions by more than this fraction are ignored; off if not positive.
    """

    def __init__(
        self,
        regress_ranges: Sequence[tuple[float, float]] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        iou_calculator: dict = dict(type='BboxOverlaps2D'),
        ignore_iof_thr: float = -1,
    ) -> None:
        self.regress_ranges, self.ignore_iof_thr = regress_ranges, ignore_iof_thr
        self.iou_calculator = TASK_UTILS.build(iou_calculator)

    @torch.no_grad()
    def assign_batch(self, priors: Priors, gt: PaddedGT, *, scores=None, bboxes=None, **kwargs) -> Assignment:
        if len(self.regress_ranges) != len(priors.level_sizes):
            raise UserValueError(f'{len(priors.level_sizes)} levels, but {len(self.regress_ranges)} regress_ranges')
        boxes = priors.boxes.float()
        ranges = per_level(self.regress_ranges, priors.level_sizes, boxes)
        match = space_scale_match((boxes[..., :2] + boxes[..., 2:]) / 2, None, ranges, gt, margin=MARGIN)
        ignored = in_ignored_region(priors.expanded().float(), gt, self.ignore_iof_thr, self.iou_calculator)
        return Assignment(match.gt_inds.masked_fill(~priors.valid | ignored, -1), match.quality)

    @by_batch
    def assign(self, pred_instances, num_level_priors: list[int], gt_instances, gt_instances_ignore=None):
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, num_level_priors=num_level_priors)
