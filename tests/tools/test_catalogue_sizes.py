"""Every config that can be built has its size in docs/catalogue.json, and it is right."""

import pytest
from test_catalogue import CATALOGUE, EVERY_CONFIG, FACTS, FRESHEN, config

pytestmark = pytest.mark.slow
# config -> why it has no size
WITHOUT_SIZE = {
    'v3det/fcos_swinb_fpn_8x4_sample1e-3_mstrain_v3det_2x.py': 'a mistake that the reference has too',
    **{
        f'misc/d2_{kind}_r50-caffe_fpn_ms-90k_coco.py': 'made by detectron2'
        for kind in ('faster-rcnn', 'mask-rcnn', 'retinanet')
    },
}


def test_what_can_be_built_has_been_measured():
    missing = [
        name
        for name in EVERY_CONFIG
        if name not in FACTS['measured'] and name not in WITHOUT_SIZE and CATALOGUE.can_be_measured(config(name))
    ]
    assert not missing, FRESHEN


def test_all_sizes_are_those_of_the_models(default_scope):
    sizes = CATALOGUE.measured(lambda name: True, {})
    unseen = set(FACTS['measured']) - set(sizes)  # whose optional package is not installed
    assert all(name.startswith('timm_example/') for name in unseen)
    assert sizes == {name: size for name, size in FACTS['measured'].items() if name not in unseen}, FRESHEN
