"""Build functions of 2.x, kept for research code that imports them; `TASK_UTILS.build` does the same."""

from mmdet.registry import TASK_UTILS

PRIOR_GENERATORS = ANCHOR_GENERATORS = BBOX_ASSIGNERS = BBOX_SAMPLERS = TASK_UTILS
MATCH_COSTS = BBOX_CODERS = IOU_CALCULATORS = TASK_UTILS


def build_bbox_coder(cfg, **default_args):
    """As ``TASK_UTILS.build``; kept for code of MMDetection 2.x."""
    return TASK_UTILS.build(cfg, default_args=default_args)


def build_iou_calculator(cfg, default_args=None):
    """As ``TASK_UTILS.build``; kept for code of MMDetection 2.x."""
    return TASK_UTILS.build(cfg, default_args=default_args)


build_assigner = build_sampler = build_bbox_coder
build_prior_generator = build_anchor_generator = build_match_cost = build_iou_calculator
