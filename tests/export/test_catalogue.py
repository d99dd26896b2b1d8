"""Every algorithm becomes a .pt2 and an ONNX file that find what it finds, or stands in a table of reasons."""

import pytest
import torch
from algorithms import FAMILIES_WITH_MODELS, detector, form_of, metadata, pictures, predicted, sizes, smallest

from mmdet.apis.exporting import readable
from mmdet.export.proof import Difference, compare
from mmdet.export.tracing import trace

SEGMENTS = 'its results are segments of the whole picture, not boxes'
# family -> why its smallest detector is not exported
REASONS = {
    'crowddet': 'suppression that spares boxes of the same region goes image by image',
    'fast_rcnn': 'it takes proposals beside pictures',
    'grid_rcnn': 'the boxes of its grids are made image by image',
    'mask2former': SEGMENTS,
    'maskformer': SEGMENTS,
    'panoptic_fpn': SEGMENTS,
    'solo': 'instances without boxes, chosen image by image by matrix NMS',
    'solov2': 'instances without boxes, chosen image by image by matrix NMS',
    'yolact': 'Fast NMS goes image by image',
}
QUICK = ('retinanet', 'yolox', 'faster_rcnn', 'centernet', 'ssd', 'fcos')
ABSENT = [family for family in FAMILIES_WITH_MODELS if smallest(family) is None]
EXPORTED = [family for family in FAMILIES_WITH_MODELS if family not in {*ABSENT, *REASONS}]


def with_mark(family):
    return family if family in QUICK else pytest.param(family, marks=pytest.mark.slow)


def test_fewer_than_one_in_ten_have_a_reason():
    assert set(REASONS) <= set(FAMILIES_WITH_MODELS)
    assert len(REASONS) * 10 < len(EXPORTED) + len(REASONS)


@pytest.mark.parametrize('family', map(with_mark, EXPORTED))
def test_files_find_what_the_detector_finds(family, default_scope, tmp_path):
    pytest.importorskip('onnxscript')
    ort = pytest.importorskip('onnxruntime')
    from mmdet.export.onnx_format import write_onnx

    model = detector(family)
    step, traced, others = sizes(family)
    form, about = form_of(model, operator=True), metadata(form_of(model))
    program, _ = trace(form, traced, dynamic_batch=True, dynamic_size=bool(others), divisor=step)
    torch.export.save(program, tmp_path / 'detector.pt2')
    loaded = torch.export.load(tmp_path / 'detector.pt2').module()
    write_onnx(program, tmp_path / 'detector.onnx', about)
    session = ort.InferenceSession(tmp_path / 'detector.onnx', providers=['CPUExecutionProvider'])

    pt2, onnx = Difference(), Difference()
    for count, size in zip((1, 3), others or (traced, traced)):
        images = pictures(count, size)
        known = predicted(model, form, images)
        outputs = dict(zip(about.outputs, loaded(images)))
        limit = outputs['boxes'].shape[1]
        pt2 = pt2.joined(compare(known, readable(outputs, about), limit))
        values = map(torch.as_tensor, session.run(None, {'images': images.numpy()}))
        onnx = onnx.joined(compare(known, readable(dict(zip(about.outputs, values)), about), limit))
    assert pt2.pairs and pt2.within(), f'pt2: {pt2}'
    assert onnx.pairs and onnx.within(), f'onnx: {onnx}'
