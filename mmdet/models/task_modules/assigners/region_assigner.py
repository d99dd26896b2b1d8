from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.models.core import Assignment, CenterRegions, PaddedGT, Priors, by_batch, per_level
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor

from .assign_result import AssignResult
from .base_assigner import BaseAssigner


@TASK_UTILS.register_module()
class RegionAssigner(BaseAssigner):
    """Each ground truth gets the anchors around its centre on the level of its size (Cascade RPN, arXiv:1909.06720,
    Sec. 3.3; the regions are those of Guided Anchoring, arXiv:1901.03278).

    Args:
        center_ratio: Sides of the positive region in sides of the ground truth.
        ignore_ratio: Sides of the region that is ignored, on this level and on the two next to it.

    Args of ``assign_batch``: ``featmap_sizes``, height and width of each level; ``anchor_scale``, the side of its
    anchors in strides; ``anchor_strides``, one number for each level. Regions of ``gt_instances_ignore`` have no say.
    """

    def __init__(self, center_ratio: float = 0.2, ignore_ratio: float = 0.5) -> None:
        self.center_ratio, self.ignore_ratio = center_ratio, ignore_ratio

    @by_batch
    def assign(  # type: ignore[override]  # the arguments of 3.x
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict,
        featmap_sizes: Sequence[tuple[int, int]],
        num_level_anchors: Sequence[int],
        anchor_scale: float,
        anchor_strides: Sequence[int],
        gt_instances_ignore: InstanceData | None = None,
        allowed_border: int = 0,
    ) -> AssignResult:
        """Assign one image, whose ``pred_instances`` have ``priors (P, 4)`` and ``valid_flags (P,)``.

        Args:
            allowed_border: Pixels by which an anchor may reach out of the picture; any if negative.
        """
        anchors = get_box_tensor(pred_instances.priors)
        regions = dict(featmap_sizes=featmap_sizes, anchor_scale=anchor_scale, anchor_strides=anchor_strides)
        result = super().assign(
            InstanceData(priors=anchors),
            gt_instances,
            gt_instances_ignore,
            num_level_priors=num_level_anchors,
            **regions,
        )
        flags = anchor_inside_flags(anchors, pred_instances.valid_flags, img_meta['img_shape'], allowed_border)
        outside = ~flags.bool()
        result.gt_inds = result.gt_inds.masked_fill(outside, -1)
        result.labels = result.labels.masked_fill(outside, -1)
        return result

    def assign_batch(  # type: ignore[override]  # what the regions depend on is given
        self,
        priors: Priors,
        gt: PaddedGT,
        *,
        featmap_sizes: Sequence[tuple[int, int]],
        anchor_scale: float,
        anchor_strides: Sequence[int],
        scores: Tensor | None = None,
        bboxes: Tensor | None = None,
        **kwargs,
    ) -> Assignment:
        cells = priors.boxes.float() / per_level(anchor_strides, priors.level_sizes, priors.boxes)[:, None]
        regions = CenterRegions.of(
            (cells[..., :2] + cells[..., 2:]) * 0.5,
            gt,
            priors.level_sizes,
            featmap_sizes,
            anchor_strides,
            anchor_scale,
            self.center_ratio,
            self.ignore_ratio,
        )
        return Assignment(regions.gt_inds.masked_fill(regions.near | ~priors.valid, -1))
