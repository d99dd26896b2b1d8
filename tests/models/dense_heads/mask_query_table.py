"""Small heads whose queries predict masks, by name, and what they are given. Pictures are 64 x 64."""

import copy

import numpy as np
import torch
from head_table import BOXES, IMAGE, NUM_CLASSES, samples
from mmengine.config import ConfigDict
from mmengine.structures import PixelData

from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks

LAYERS, QUERIES, DIMS, POINTS = 2, 7, 8, 40
CHANNELS, STRIDES = [4, 6, 8, 10], [4, 8, 16, 32]
THINGS, STUFF = NUM_CLASSES, 2

FFN = dict(embed_dims=DIMS, feedforward_channels=8, num_fcs=2, ffn_drop=0.0)
ATTENTION = dict(embed_dims=DIMS, num_heads=2, dropout=0.0, batch_first=True)
POSITIONS = dict(num_feats=DIMS // 2, normalize=True)
ENCODER = dict(num_layers=1, layer_cfg=dict(self_attn_cfg=ATTENTION, ffn_cfg=FFN))
GN = dict(type='GN', num_groups=2)
PLAIN = dict(type='PixelDecoder', norm_cfg=GN)
DICE = dict(type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0, loss_weight=1.0)


def deformable(levels):
    points = dict(embed_dims=DIMS, num_heads=2, num_levels=levels, num_points=2, dropout=0.0, batch_first=True)
    encoder = dict(num_layers=1, layer_cfg=dict(self_attn_cfg=points, ffn_cfg=FFN))
    options = dict(num_outs=levels, norm_cfg=GN, encoder=encoder, positional_encoding=POSITIONS)
    return dict(type='MSDeformAttnPixelDecoder', **options)


def head(kind, pixel_decoder, costs, stuff=0, train=None, **changes):
    costs = [dict(type='ClassificationCost', weight=2.0), *costs, dict(type='DiceCost', pred_act=True, eps=1.0)]
    matching = dict(type='HungarianAssigner', match_costs=costs)
    layer = dict(self_attn_cfg=ATTENTION, cross_attn_cfg=ATTENTION, ffn_cfg=FFN)
    weights = [1.0] * (THINGS + stuff) + [0.1]
    return dict(
        type=kind,
        in_channels=CHANNELS,
        feat_channels=DIMS,
        out_channels=DIMS,
        num_things_classes=THINGS,
        num_stuff_classes=stuff,
        num_queries=QUERIES,
        pixel_decoder=pixel_decoder,
        transformer_decoder=dict(num_layers=LAYERS, layer_cfg=layer, return_intermediate=True),
        positional_encoding=POSITIONS,
        loss_cls=dict(type='CrossEntropyLoss', class_weight=weights, loss_weight=2.0),
        loss_dice=DICE,
        train_cfg=dict(assigner=matching, sampler=dict(type='MaskPseudoSampler'), **(train or {})),
        **changes,
    )


def maskformer(pixel_decoder, **changes):
    return head('MaskFormerHead', pixel_decoder, [dict(type='FocalLossCost', binary_input=True)], **changes)


def mask2former(levels=3, **changes):
    points = dict(num_points=POINTS, oversample_ratio=3.0, importance_sample_ratio=0.75)
    given = dict(train=points, num_transformer_feat_level=levels, **changes)
    return head('Mask2FormerHead', deformable(levels), [dict(type='CrossEntropyLossCost', weight=3.0)], **given)


ENCODED = dict(type='TransformerEncoderPixelDecoder', norm_cfg=GN, encoder=ENCODER, positional_encoding=POSITIONS)
MASK_HEADS = {
    'MaskFormerHead': maskformer(ENCODED),
    'MaskFormerHead plain': maskformer(PLAIN),
    'MaskFormerHead of stuff': maskformer(ENCODED, stuff=STUFF),
    'Mask2FormerHead': mask2former(),
    'Mask2FormerHead of two levels': mask2former(2, enforce_decoder_input_project=True),
    'Mask2FormerHead of stuff': mask2former(stuff=STUFF),
}


def build_mask_head(name, **changes):
    torch.manual_seed(0)
    built = MODELS.build(ConfigDict(copy.deepcopy({**MASK_HEADS[name], **changes})))
    built.init_weights()
    for key, value in built.named_parameters():  # queries differ more than at the start of training
        if 'embed' in key and value.dim() > 1:
            torch.nn.init.normal_(value, std=0.5)
    return built


def maps(batch, seed=0):
    """What a backbone gives."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(IMAGE[0] // stride, IMAGE[1] // stride) for stride in STRIDES]
    return tuple(torch.randn(batch, width, *size, generator=generator) for width, size in zip(CHANNELS, sizes))


def mask_samples(*kinds, stuff=0, packed=False):
    """Rectangles as masks; of stuff, the first class covers the upper half and the second what is left of the lower."""
    found = samples(*kinds)
    for kind, sample in zip(kinds, found):
        boxes = BOXES[kind][0]
        masks = np.zeros((len(boxes), *IMAGE), np.uint8)
        for mask, box in zip(masks, boxes):
            x1, y1, x2, y2 = map(int, box)
            mask[y1:y2, x1:x2] = 1
        bitmaps = BitmapMasks(masks, *IMAGE)
        sample.gt_instances.masks = bitmaps.packed() if packed else bitmaps
        if stuff:
            classes = torch.full((1, *IMAGE), 255)
            classes[:, : IMAGE[0] // 2] = THINGS
            classes[:, IMAGE[0] // 2 :, : IMAGE[1] // 4] = THINGS + 1
            sample.gt_sem_seg = PixelData(sem_seg=classes)
    return found


def stuff_of(name):
    return MASK_HEADS[name]['num_stuff_classes']
