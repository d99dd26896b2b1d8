"""Small detectors that read."""

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

SPECIAL = ['[CLS]', '[SEP]', '.', '?']
COSTS = [
    dict(type='BinaryFocalLossCost', weight=2.0),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]


def grounding_dino_cfg(bert):
    ffn = dict(embed_dims=32, feedforward_channels=32, ffn_drop=0.0)
    attention = dict(embed_dims=32, num_heads=4, dropout=0.0)
    points = dict(embed_dims=32, num_levels=2, num_heads=4, dropout=0.0)
    return dict(
        type='GroundingDINO',
        num_queries=20,
        with_box_refine=True,
        as_two_stage=True,
        num_feature_levels=2,
        language_model=dict(
            type='BertModel',
            name=bert,
            pad_to_max=False,
            use_sub_sentence_represent=True,
            special_tokens_list=SPECIAL,
        ),
        backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=3, out_indices=(1, 2), strides=(1, 2, 2),
                      dilations=(1, 1, 1), init_cfg=None),
        neck=dict(type='ChannelMapper', in_channels=[8, 16], kernel_size=1, out_channels=32, num_outs=2),
        encoder=dict(
            num_layers=2,
            layer_cfg=dict(self_attn_cfg=points, ffn_cfg=ffn),
            text_layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn),
            fusion_layer_cfg=dict(v_dim=32, l_dim=32, embed_dim=32, num_heads=4, init_values=0.5),
        ),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_text_cfg=attention, cross_attn_cfg=points, ffn_cfg=ffn
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(num_feats=16, normalize=True, offset=0.0, temperature=20),
        bbox_head=dict(
            type='GroundingDINOHead',
            num_classes=256,
            embed_dims=32,
            sync_cls_avg_factor=True,
            contrastive_cfg=dict(max_text_len=256, log_scale='auto', bias=True),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        ),
        dn_cfg=dict(group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=10)),
        train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=COSTS)),
        test_cfg=dict(max_per_img=10),
    )  # fmt: skip


def grounding_dino(bert, **changes):
    return built(grounding_dino_cfg(bert), changes)


def glip(bert, early_fuse=True, **changes):
    cfg = dict(
        type='GLIP',
        language_model=dict(type='BertModel', name=bert),
        backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=3, out_indices=(1, 2), strides=(1, 2, 2),
                      dilations=(1, 1, 1), init_cfg=None),
        neck=dict(type='FPN', in_channels=[8, 16], out_channels=32, num_outs=5),
        bbox_head=dict(
            type='ATSSVLFusionHead',
            lang_model_name=bert,
            early_fuse=early_fuse,
            num_dyhead_blocks=1,
            num_classes=80,
            in_channels=32,
            feat_channels=32,
            anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
                                  strides=[8, 16, 32, 64, 128], center_offset=0.5),
            bbox_coder=dict(type='DeltaXYWHBBoxCoderForGLIP', target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(type='ATSSAssigner', topk=9, iou_calculator=dict(type='BboxOverlaps2D_GLIP')),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6),
                      max_per_img=10),
    )  # fmt: skip
    return built(cfg, changes)


def built(cfg, changes):
    """The model, whose queries, cells and words differ more than at the start of training."""
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict({**cfg, **changes}))
    model.init_weights()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape) * 0.05)
    return model.eval()


READERS = {'GroundingDINO': grounding_dino, 'GLIP': glip}


def pictures(*texts, truth=True, **meta):
    """Pictures of noise, and samples with texts, of which the second has no object."""
    generator = torch.Generator().manual_seed(0)
    images, samples = torch.randn(len(texts), 3, 96, 128, generator=generator), []
    for index, text in enumerate(texts):
        sizes = dict(img_shape=(96, 128), ori_shape=(96, 128), batch_input_shape=(96, 128), pad_shape=(96, 128))
        sample = DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0), text=text, **meta))
        if truth:
            boxes = torch.tensor([[8.0, 8.0, 60.0, 50.0], [40.0, 30.0, 120.0, 90.0]])[: 0 if index == 1 else 2]
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 0])[: len(boxes)])
        samples.append(sample)
    return images, samples
