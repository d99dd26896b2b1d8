"""The exportable form beside the detector it is made of, without a graph."""

import pytest
import torch
from algorithms import detector, form_of, metadata, pictures, predicted

from mmdet.apis.exporting import difference_of, readable
from mmdet.export.form import Exportable
from mmdet.export.proof import compare

FAMILIES = ['retinanet', 'yolox', 'mask_rcnn', 'cascade_rcnn', 'deformable_detr', 'paa', 'sabl', 'tridentnet']
LARGE = ('cascade_rcnn', 'grid_rcnn', 'panoptic_fpn', 'tridentnet')
FAMILIES += ['condinst', 'yolact', 'solov2', 'grid_rcnn', 'crowddet', 'maskformer', 'mask2former', 'panoptic_fpn']
ROWS = [pytest.param(each, marks=[pytest.mark.slow] * (each in LARGE)) for each in FAMILIES]


@pytest.mark.parametrize('family', ROWS)
def test_form_finds_what_the_detector_finds(family, default_scope):
    model = detector(family)
    form, images = form_of(model), pictures(2, (128, 160))
    outputs = dict(zip(form.outputs, form(images)))
    assert len({value.shape[:2] for name, value in outputs.items() if name != 'panoptic'}) <= 1
    assert 'panoptic' not in outputs or len(outputs['panoptic'].unique()) >= 2
    known = predicted(model, form, images)
    difference = difference_of(known, outputs, metadata(form), (128, 160))
    assert (difference.pairs or 'panoptic' in outputs) and difference.within(1e-4, 0.01), difference


def test_suppression_and_preprocessing_outside(default_scope):
    model, images = detector('retinanet'), pictures(2, (128, 160))
    form = form_of(model)
    outside = Exportable(model, preprocess=False, nms=False)
    about = metadata(form)
    inside = readable(dict(zip(form.outputs, form(images))), about)
    about.nms = outside.outside
    assert about.nms['nms']['type'] == 'nms' and about.nms['max_per_img']
    outputs = dict(zip(form.outputs, outside(form.normalise(images))))
    assert outputs['boxes'].shape[1] > about.nms['max_per_img']
    assert compare(inside, readable(outputs, about), about.nms['max_per_img']).within(1e-6, 1e-4)
    assert model.bbox_head.test_cfg.nms.type == 'nms'  # the detector itself is as it was


def test_padding_is_that_of_the_normalised_picture(default_scope):
    form = form_of(detector('retinanet'))
    image = torch.tensor(form.fill)[None, :, None, None].expand(1, 3, 2, 2)
    assert form.normalise(image).abs().max() < 1e-5
