"""A small detector for each entry of the tables of dense and of two-stage heads."""

import copy
import sys
from pathlib import Path

import torch
from mmengine.config import ConfigDict

from mmdet.registry import MODELS

MODELS_FOLDER = Path(__file__).parents[1]
sys.path[:0] = [str(MODELS_FOLDER / 'dense_heads'), str(MODELS_FOLDER / 'roi_heads')]
from head_table import HEADS, TEST_CFG, for_head, samples  # noqa: E402
from two_stage_table import TABLE, build, predicted, sample, total  # noqa: E402

__all__ = ['HEADS', 'TABLE', 'build', 'detector', 'of_one_stage', 'predicted', 'total']

PREPROCESSOR = dict(type='DetDataPreprocessor', mean=[114.0] * 3, std=[57.0] * 3, pad_size_divisor=16)


def of_one_stage(name, **preprocessor):
    """A detector around a dense head, whose strides are 8 and 16."""
    torch.manual_seed(0)
    head = dict(HEADS[name], test_cfg=TEST_CFG)
    config = dict(
        type='SingleStageDetector',
        data_preprocessor=dict(PREPROCESSOR, **preprocessor),
        backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=3, out_indices=(1, 2), strides=(1, 2, 2),
                      dilations=(1, 1, 1), init_cfg=None),
        neck=dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2),
        bbox_head=head,
        train_cfg=head.get('train_cfg'),
        test_cfg=TEST_CFG,
    )  # fmt: skip
    model = MODELS.build(ConfigDict(copy.deepcopy(config)))
    if len(model.bbox_head.prior_generator.strides) == 1:  # sees the first level alone
        model.bbox_head.register_forward_pre_hook(lambda module, inputs: (inputs[0][:1],))
    return model


def detector(name, **preprocessor):
    """A detector, the size of its pictures, and samples of two of them."""
    if name in HEADS:
        return of_one_stage(name, **preprocessor), (64, 64), for_head(name, samples('many', 'empty'))
    model = build(name)
    model.data_preprocessor = MODELS.build(dict(PREPROCESSOR, **preprocessor))
    return model, (96, 128), [sample(3), sample(0, 1)]
