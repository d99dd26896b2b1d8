"""Files of each format whose runtime is installed: they say what they are, and find what the detector finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from algorithms import detector, pictures, predicted
from mmengine.structures import InstanceData

from mmdet.apis.arguments import add_benchmark_arguments, add_export_arguments
from mmdet.apis.exporting import difference_of
from mmdet.errors import UserFileError, UserImportError, UserRuntimeError, UserValueError
from mmdet.export.exported_detector import ExportedDetector, fit_images, fit_pipeline, whole_masks
from mmdet.export.form import Exportable
from mmdet.export.formats import FORMATS, Request, options_for, write_file
from mmdet.export.metadata import KEY, Metadata
from mmdet.export.parting import where_they_part
from mmdet.export.proof import SURE, Difference, compare, compare_maps, least_score, tolerances
from mmdet.export.runtime import is_exported, open_file, optional
from mmdet.structures import DetDataSample

ROOT = Path(__file__).parents[2]
SIDES = (96, 128)


def written(family, tmp_path, name, precision='float32', **options):
    model = detector(family)
    form = Exportable(model, options=options_for(name, 50), **options)
    about = Metadata('test', name, precision, size=list(SIDES), outputs=form.outputs, fill=form.fill, nms=form.outside)
    about.dynamic_batch, about.preprocess = True, form.preprocess
    path = tmp_path / f'detector{FORMATS[name].suffix}'
    if precision == 'float16':
        form.halve()
    inputs = [pictures(1, SIDES, seed) for seed in range(3)]
    lines = []
    found = write_file(form, Request(path, about, SIDES, inputs, lines.append))
    return model, form, found, lines


@pytest.mark.parametrize(
    'name, precision',
    [('pt2', 'float32'), ('onnx', 'float32')]
    + [
        pytest.param(*each, marks=pytest.mark.slow)
        for each in (('pt2', 'float16'), ('onnx', 'float16'), ('onnx', 'int8'))
    ],
)
def test_a_file_finds_what_the_detector_finds(name, precision, tmp_path, default_scope):
    if name != 'pt2':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
    model, form, path, _ = written('yolox', tmp_path, name, precision)
    session = open_file(path)
    assert session.metadata.format == name and session.metadata.precision == precision
    images = pictures(3, SIDES, 7)
    difference = difference_of(predicted(model, form, images), session(images), session.metadata, SIDES)
    assert difference.pairs > 10 and difference.within(*tolerances(precision)), difference


@pytest.mark.slow
@pytest.mark.parametrize('name', ['openvino', 'aotinductor', 'tensorrt', 'executorch'])
def test_other_formats(name, tmp_path, default_scope):
    for package in {'openvino': ['openvino'], 'executorch': ['executorch']}.get(name, []):
        pytest.importorskip(package)
    if name in ('openvino', 'tensorrt'):
        pytest.importorskip('onnxscript')
    model, form, path, lines = written('yolox', tmp_path, name, nms=FORMATS[name].suppresses)
    session = open_file(path)
    images = pictures(3, SIDES, 7)
    difference = difference_of(predicted(model, form, images), session(images), session.metadata, SIDES)
    assert difference.pairs > 10 and difference.within(), difference
    assert name != 'tensorrt' or 'trtexec' in lines[0]


@pytest.mark.slow
def test_layers_between_which_a_file_parts(tmp_path, default_scope):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    _, form, path, _ = written('yolox', tmp_path, 'onnx')
    image = pictures(1, SIDES)
    assert 'All layers agree' in where_they_part(form, path, image)
    convolution = form.detector.neck.out_convs[0].conv
    convolution.weight.mul_(1.5)
    assert 'part in detector.neck.out_convs.0' in where_they_part(form, path, image)


def test_a_file_in_the_place_of_a_detector(tmp_path, default_scope):
    path = written('yolox', tmp_path, 'pt2')[2]
    cfg = dict(type='DetDataPreprocessor', pad_size_divisor=32, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])
    exported = ExportedDetector(str(path), cfg).eval()
    meta = dict(img_shape=(80, 120), ori_shape=(40, 60), scale_factor=(2.0, 2.0), img_id=0)
    data = dict(inputs=[pictures(1, (80, 120))[0]], data_samples=[DetDataSample(metainfo=meta)])
    found = exported.test_step(data)[0].pred_instances
    assert len(found.bboxes) and found.bboxes[:, 2].max() <= 60 and found.bboxes[:, 3].max() <= 40
    with pytest.raises(UserRuntimeError, match='cannot be trained'):
        exported(pictures(1, SIDES), data['data_samples'], mode='loss')
    large = DetDataSample(metainfo=dict(img_shape=(200, 120)))
    with pytest.raises(UserRuntimeError, match='at most 96 x 128'):
        fit_images(pictures(1, (200, 120)), [large], exported.session.metadata, path)


def test_pictures_are_made_to_fit():
    pipeline = [
        dict(type='Resize', scale=(1333, 800), keep_ratio=True),
        dict(type='Resize', scale=(320, 320), keep_ratio=False),
        dict(type='Pad', size=(320, 320)),
    ]
    fit_pipeline(pipeline, 96, 128)
    assert pipeline[0]['scale'] == (96, 96) and pipeline[1]['scale'] == (128, 96) and pipeline[2]['size'] == (128, 96)


def instances(boxes, scores, labels):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return InstanceData(bboxes=boxes, scores=torch.tensor(scores), labels=torch.tensor(labels).long())


def test_differences():
    boxes = [[0.0, 0, 10, 10], [20, 20, 40, 40]]
    one = instances(boxes, [0.9, 0.5], [0, 1])
    assert compare([one], [one]) == Difference(0.0, 0.0, 2)
    other = instances([[20.0, 20, 40, 40.5], [0, 0, 10, 10]], [0.5, 0.8], [1, 0])
    found = compare([one], [other])
    assert found.pairs == 2 and found.boxes == 0.5 and found.scores == pytest.approx(0.1) and not found.within()
    assert compare([one], [instances(boxes, [0.9, 0.5], [0, 2])]).alone_count == 2
    few = instances(boxes[:1], [0.9], [0])
    assert compare([one], [few]).alone == 0.5 and compare([one], [few], limit=1).alone == 0
    assert compare([one], [few], share=0.5).alone == 0 and compare([one], [other], share=0.5).boxes == 0
    none = instances([], [], [])
    assert compare([none], [none]).within() and compare([one], [none]).alone == pytest.approx(0.9)


def test_differences_of_masks_and_maps():
    corner = torch.zeros(1, 40, 40, dtype=torch.bool)
    corner[:, :20, :20] = True
    lower = corner.roll(1, 1)
    one, other = (instances([[0.0, 0, 20, 20]], [0.9], [0]) for _ in range(2))
    one.masks, other.masks = corner, corner
    assert compare([one], [other]).masks == 0
    other.masks = lower
    found = compare([one], [other])
    assert found.masks == pytest.approx(40 / 420) and not found.within() and 'masks in 9.52%' in str(found)
    assert compare_maps(corner.int(), lower.int()).masks == pytest.approx(40 / 1600)


@pytest.mark.parametrize('precision, least', [('float32', 0.0), ('float16', 0.2), ('int8', 0.2)])
def test_what_is_compared_in_less_than_single_precision(precision, least):
    unsure = instances([[0.0, 0, 9, 9]] * 2, [0.4, 0.1], [0, 0])
    assert least_score(precision, [unsure]) == pytest.approx(least)
    assert least_score('int8', [instances([[0.0, 0, 9, 9]], [0.9], [0])]) == SURE


@pytest.mark.parametrize('enlarged', ['probabilities', 'logits', 'aligned'])
def test_masks_of_a_file_are_as_large_as_the_picture(enlarged):
    inside = torch.zeros(2, 8, 8)
    inside[0, 2:6, 2:6], inside[1] = 1.0, 1.0
    values = torch.where(inside > 0, 9.0, -9.0) if enlarged == 'logits' else inside
    image = InstanceData(bboxes=torch.tensor([[8.0, 8, 24, 24], [0, 0, 32, 24]]), masks=values)
    kind = dict(of='picture', threshold=0.5, enlarged=enlarged)
    masks = whole_masks(image, kind, (32, 32), (24, 32), (48, 64))  # the lower quarter of the input is padding
    assert masks.shape == (2, 48, 64) and masks[1].all()
    assert masks[0, 20:40, 20:40].all() and not masks[0, :12].any() and not masks[0, :, 56:].any()


def test_masks_of_a_file_within_boxes():
    image = InstanceData(bboxes=torch.tensor([[4.0, 4, 12, 12]]), masks=torch.ones(1, 4, 4))
    kind = dict(of='box', threshold=0.5, enlarged='probabilities')
    masks = whole_masks(image, kind, (32, 32), (24, 32), (16, 16))
    assert masks[0, 5:11, 5:11].all() and masks.sum() <= 100


def test_mistakes(tmp_path, default_scope):
    with pytest.raises(UserFileError, match='no exported file'):
        open_file(tmp_path / 'absent.onnx')
    (tmp_path / 'detector.pth').touch()
    with pytest.raises(UserValueError, match=r'they end in \.onnx'):
        open_file(tmp_path / 'detector.pth')
    with pytest.raises(UserValueError, match='was not exported'):
        Metadata.load('', 'x.onnx')
    with pytest.raises(UserImportError, match='pip install absent_package'):
        optional('absent_package.part', 'this')
    with pytest.raises(UserValueError, match='float32, not'):
        written('yolox', tmp_path, 'aotinductor', 'int8')
    assert is_exported('a.onnx') and not is_exported('a.pth')


def test_metadata_survives():
    about = Metadata('1', 'onnx', classes=['a'], nms=dict(nms=dict(type='nms', iou_threshold=0.5)))
    assert Metadata.load(json.dumps({**json.loads(about.dump()), 'later': 1}), 'x') == about
    assert KEY == 'mmdet'


def test_formats_of_the_command_are_those_there_are():
    import argparse

    parser = argparse.ArgumentParser()
    add_export_arguments(parser)
    choices = next(action.choices for action in parser._actions if action.dest == 'format')
    assert list(choices) == list(FORMATS)
    add_benchmark_arguments(argparse.ArgumentParser())


@pytest.mark.parametrize('command', ['export', 'benchmark'])
def test_help_loads_nothing_heavy(command):
    code = (
        'import sys\nfrom mmdet.cli.main import main\n'
        f'try:\n    main([{command!r}, "--help"])\nexcept SystemExit:\n    pass\n'
        'assert not {"torch", "mmengine"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f'mmdet {command}' in done.stdout


@pytest.mark.parametrize('tool', ['deployment/export.py', 'analysis_tools/benchmark.py'])
def test_tools_tell_their_options(tool):
    done = subprocess.run([sys.executable, ROOT / 'tools' / tool, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and '--cfg-options' in done.stdout
