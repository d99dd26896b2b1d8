"""Names and shapes of the weights are what published checkpoints have."""

import gzip
import json

import pytest
import torch

from mmdet.registry import MODELS

CASES = [
    'carafe__faster-rcnn_r50_fpn-carafe_1x_coco',
    'cornernet__cornernet_hourglass104_8xb6-210e-mstest_coco',
    'dcnv2__faster-rcnn_r50-mdconv-group4-c3-c5_fpn_1x_coco',
    'detectors__detectors_cascade-rcnn_r50_1x_coco',
    'dyhead__atss_r50_fpn_dyhead_1x_coco',
    'faster_rcnn__faster-rcnn_r50-caffe-dc5_1x_coco',
    'fpg__retinanet_r50_fpg_crop640_50e_coco',
    'gcnet__mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco',
    'gn+ws__faster-rcnn_x50-32x4d_fpn_gn-ws-all_1x_coco',
    'hrnet__fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco',
    'libra_rcnn__libra-fast-rcnn_r50_fpn_1x_coco',
    'nas_fpn__retinanet_r50_nasfpn_crop640-50e_coco',
    'pafpn__faster-rcnn_r50_pafpn_1x_coco',
    'pvt__retinanet_pvt-s_fpn_1x_coco',
    'pvt__retinanet_pvtv2-b2_fpn_1x_coco',
    'regnet__mask-rcnn_regnetx-3.2GF-mdconv-c3-c5_fpn_1x_coco',
    'resnest__faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco',
    'retinanet__retinanet_r50_fpn_1x_coco',
    'rtmdet__rtmdet_l_convnext_b_4xb32-100e_coco',
    'rtmdet__rtmdet_s_8xb32-300e_coco',
    'ssd__ssd512_coco',
    'ssd__ssdlite_mobilenetv2-scratch_8xb24-600e_coco',
    'swin__retinanet_swin-t-p4-w7_fpn_1x_coco',
    'tridentnet__tridentnet_r50-caffe_1x_coco',
    'vfnet__vfnet_res2net101-mdconv-c3-c5_fpn_ms-2x_coco',
    'yolo__yolov3_d53_8xb8-320-273e_coco',
    'yolof__yolof_r50-c5_8xb8-1x_coco',
    'yolox__yolox_tiny_8xb8-300e_coco',
]


def untuple(value):
    if isinstance(value, dict):
        return (
            tuple(map(untuple, value['tuple']))
            if set(value) == {'tuple'}
            else {k: untuple(v) for k, v in value.items()}
        )
    return [untuple(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize('name', CASES)
def test_state_dict_as_published(shared_dir, default_scope, name):
    with gzip.open(shared_dir / 'parity' / 'cases' / f'{name}.json.gz', 'rt') as file:
        case = json.load(file)
    for part in ('backbone', 'neck'):
        cfg = untuple(case['model'].get(part))
        if cfg is None:
            continue
        expected = [(k, tuple(s)) for k, s in case['state'] if k.startswith(f'{part}.')]
        with torch.device('meta'):
            module = torch.nn.Sequential(*map(MODELS.build, cfg)) if isinstance(cfg, list) else MODELS.build(cfg)
        assert [(f'{part}.{k}', tuple(v.shape)) for k, v in module.state_dict().items()] == expected
