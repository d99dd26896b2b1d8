import asyncio
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet.apis import DetInferencer, async_inference_detector, inference_detector, init_detector
from mmdet.apis.inference import available_device, dataset_meta, inference_pipeline, list_inputs, stored_config
from mmdet.config import find_config
from mmdet.errors import UserValueError
from mmdet.structures import DetDataSample
from mmdet.zoo import NoWeightsError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('cat', 'dog', 'owl')
CONFIG = f"""
default_scope = 'mmdet'
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True, pad_size_divisor=32
    ),
    backbone=dict(
        type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='no')
    ),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3),
    bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32]
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)
test_dataloader = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes={CLASSES}), pipeline=[
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
"""


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config, a checkpoint that carries it, and a folder with three pictures and a text file."""
    folder = tmp_path_factory.mktemp('files')
    (folder / 'config.py').write_text(CONFIG)
    torch.manual_seed(0)
    model = init_detector(folder / 'config.py', device='cpu')
    meta = {'cfg': CONFIG, 'dataset_meta': {'CLASSES': CLASSES, 'PALETTE': [(1, 2, 3)] * 3}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'weights.pth')
    pictures = folder / 'pictures'
    pictures.mkdir()
    for index, shape in enumerate(((48, 64, 3), (64, 48, 3), (30, 90, 3))):
        picture = np.random.RandomState(index).randint(0, 255, shape).astype(np.uint8)
        cv2.imwrite(str(pictures / f'{index}.png'), picture)
    (pictures / 'notes.txt').touch()
    return folder


@pytest.fixture(scope='module')
def model(files):
    return init_detector(str(files / 'config.py'), str(files / 'weights.pth'), device='cpu')


@pytest.fixture(scope='module')
def inferencer(files):
    return DetInferencer(weights=str(files / 'weights.pth'), device='cpu', show_progress=False)


def same(a, b):
    torch.testing.assert_close(a.pred_instances.bboxes, b.pred_instances.bboxes)
    torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores)


def test_init(files, model):
    assert not model.training and model.cfg.model.type == 'RetinaNet'
    assert model.dataset_meta['classes'] == CLASSES and model.dataset_meta['palette'] == [(1, 2, 3)] * 3
    cfg = Config.fromfile(files / 'config.py')
    coloured = init_detector(cfg, device='cpu', palette='coco', cfg_options={'model.bbox_head.num_classes': 4})
    assert coloured.dataset_meta == {'classes': CLASSES, 'palette': 'coco'}
    with pytest.raises(UserValueError, match="'nope' is neither a colour nor a palette"):
        init_detector(cfg, device='cpu', palette='nope')
    assert coloured.bbox_head.num_classes == 4 and cfg.model.bbox_head.num_classes == 3
    assert cfg.model.backbone.init_cfg is not None


def test_init_errors(files, tmp_path):
    with pytest.raises(TypeError, match='int'):
        init_detector(3)
    with pytest.raises(FileNotFoundError, match=r'nothing\.py'):
        init_detector(str(files / 'nothing.py'))
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth'):
        init_detector(str(files / 'config.py'), 'nothing.pth', device='cpu')
    torch.save({'state_dict': {'other.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth.*another architecture'):
        init_detector(str(files / 'config.py'), str(tmp_path / 'other.pth'), device='cpu')


def test_optimized_detectors(files, model):
    """Folding moves no box by 0.01 px; bfloat16 finds about the same."""
    options = dict(checkpoint=str(files / 'weights.pth'), device='cpu')
    fused = init_detector(files / 'config.py', optimize='fuse', **options)
    assert isinstance(fused.backbone.bn1, torch.nn.Identity)
    picture = str(files / 'pictures' / '0.png')
    expected, found = (inference_detector(m, picture).pred_instances for m in (model, fused))
    assert len(expected) and found.labels.equal(expected.labels)
    torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=0, atol=0.01)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)
    half = DetInferencer(weights=str(files / 'weights.pth'), device='cpu', show_progress=False, optimize='bf16')
    scores = half(picture, return_datasamples=True)['predictions'][0].pred_instances.scores
    assert scores.dtype == torch.float32 and not scores.equal(expected.scores)
    torch.testing.assert_close(scores, expected.scores, rtol=0, atol=0.02)
    with pytest.raises(ValueError, match='fuse'):
        init_detector(files / 'config.py', optimize='fused', **options)


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert available_device('cuda:0') == 'cpu' and available_device('cpu') == 'cpu'
    assert available_device(None) == 'cpu'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert available_device('cuda:0') == 'cuda:0'


@pytest.mark.parametrize(
    ('stored', 'dataset', 'classes', 'palette'),
    [
        ({'dataset_meta': {'classes': ('a',), 'palette': [(0, 0, 0)]}}, None, ('a',), [(0, 0, 0)]),
        ({'CLASSES': ('a', 'b')}, None, ('a', 'b'), 'random'),
        ({'CLASSES': ('a',)}, {'metainfo': {'classes': ('a',), 'palette': [(9, 9, 9)]}}, ('a',), [(9, 9, 9)]),
        (None, {'metainfo': {'classes': ('x',)}}, ('x',), 'random'),
        (None, None, None, 'random'),
    ],
)
def test_classes_and_colours(default_scope, stored, dataset, classes, palette):
    cfg = Config({} if dataset is None else {'test_dataloader': {'dataset': {'type': 'CocoDataset', **dataset}}})
    meta = dataset_meta(cfg, None if stored is None else {'meta': stored})
    assert meta.get('classes') == classes and meta['palette'] == palette


def test_classes_of_the_data_set(default_scope):
    wrapped = {'type': 'RepeatDataset', 'dataset': {'type': 'CocoDataset'}}
    meta = dataset_meta(Config({'test_dataloader': {'dataset': wrapped}}), None)
    assert meta['classes'][0] == 'person' and len(meta['palette']) == 80


def test_path_array_list_and_folder_agree(files, model):
    path = files / 'pictures' / '0.png'
    one = inference_detector(model, str(path))
    assert isinstance(one, DetDataSample) and one.img_path == str(path) and one.ori_shape == (48, 64)
    boxes = one.pred_instances.bboxes
    assert boxes.shape == (5, 4) and boxes[:, 0::2].max() <= 64 and boxes[:, 1::2].max() <= 48
    array = cv2.imread(str(path))
    same(one, inference_detector(model, array))
    many = inference_detector(model, [path, array])
    assert len(many) == 2
    same(one, many[1])
    folder = inference_detector(model, files / 'pictures')
    assert [Path(sample.img_path).name for sample in folder] == ['0.png', '1.png', '2.png']
    same(one, folder[0])
    same(one, asyncio.run(async_inference_detector(model, array)))
    same(one, inference_detector(model, array, test_pipeline=_own_pipeline(model)))


def _own_pipeline(model):
    from mmdet.apis.inference import compose

    return compose(inference_pipeline(model.cfg))


def test_pipeline_without_annotations(model):
    kinds = [transform['type'] for transform in inference_pipeline(model.cfg)]
    assert kinds == ['mmdet.InferencerLoader', 'Resize', 'PackDetInputs']
    assert model.cfg.test_dataloader.dataset.pipeline[0].type == 'LoadImageFromFile'
    with pytest.raises(ValueError, match='no picture'):
        inference_pipeline(Config({'test_dataloader': {'dataset': {'pipeline': [{'type': 'Resize'}]}}}))


@pytest.mark.parametrize(
    ('inputs', 'error', 'words'),
    [
        ('nowhere/0.png', FileNotFoundError, 'nowhere/0.png'),
        ([], ValueError, 'empty'),
        ([np.zeros((2, 2, 3)), np.zeros(3)], ValueError, r'input 1 .*\(3,\)'),
        ([3], TypeError, 'int'),
    ],
)
def test_bad_inputs(inputs, error, words):
    with pytest.raises(error, match=words):
        list_inputs(inputs)


def test_bad_files(files, model, inferencer, tmp_path):
    with pytest.raises(ValueError, match='holds no picture'):
        list_inputs(tmp_path)
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no picture')
    for detect in (inferencer, lambda inputs: inference_detector(model, inputs)):
        with pytest.raises(ValueError, match=r'broken\.jpg'):
            detect([str(files / 'pictures' / '0.png'), str(broken)])


@pytest.mark.parametrize('batch_size', [1, 2, 3])
def test_batches(files, inferencer, batch_size, monkeypatch):
    sizes = []
    forward = inferencer.forward
    monkeypatch.setattr(inferencer, 'forward', lambda data: sizes.append(len(data['inputs'])) or forward(data))
    results = inferencer(files / 'pictures', batch_size=batch_size)
    assert sizes == {1: [1, 1, 1], 2: [2, 1], 3: [3]}[batch_size]
    assert [set(p) for p in results['predictions']] == [{'labels', 'scores', 'bboxes'}] * 3
    assert results['visualization'] == []
    with pytest.raises(ValueError, match='batch_size'):
        inferencer(files / 'pictures', batch_size=0)


def test_results_equal_those_of_inference_detector(files, model, inferencer):
    samples = inferencer(str(files / 'pictures'), return_datasamples=True)['predictions']
    for sample, other in zip(samples, inference_detector(model, files / 'pictures'), strict=True):
        same(sample, other)


def test_files_that_are_written(files, inferencer, tmp_path, capsys):
    again = files / 'other'
    again.mkdir()
    (again / '0.png').write_bytes((files / 'pictures' / '1.png').read_bytes())
    inputs = [str(files / 'pictures' / '0.png'), str(again / '0.png'), np.zeros((20, 30, 3), np.uint8)]
    results = inferencer(inputs, out_dir=tmp_path, no_save_pred=False, return_vis=True, print_result=True)
    assert len(results['visualization']) == 3 and results['visualization'][2].shape == (20, 30, 3)
    names, others = (
        {path.relative_to(tmp_path / part).with_suffix('').as_posix() for path in (tmp_path / part).rglob('*.*')}
        for part in ('vis', 'preds')
    )
    assert names == others and len(names) == 3 and {'pictures/0', 'other/0'} < names
    assert json.loads((tmp_path / 'preds' / 'pictures' / '0.json').read_text()) == results['predictions'][0]
    assert len(capsys.readouterr().out.splitlines()) == 3
    only_vis = tmp_path / 'only'
    inferencer(inputs[0], out_dir=only_vis)
    assert [path.name for path in only_vis.iterdir()] == ['vis']


def test_class_thresholds(files, inferencer, tmp_path):
    def drawn(threshold):
        picture = str(files / 'pictures' / '0.png')
        return inferencer(picture, return_vis=True, pred_score_thr=threshold)['visualization'][0]

    nothing = cv2.imread(str(files / 'pictures' / '0.png'))[..., ::-1]
    assert np.array_equal(drawn(dict.fromkeys(CLASSES, 1.0)), nothing)
    assert not np.array_equal(drawn(0.0), nothing)
    (tmp_path / 'class_thresholds.json').write_text(json.dumps({name: {'threshold': 0.0} for name in CLASSES}))
    assert np.array_equal(drawn(tmp_path / 'class_thresholds.json'), drawn(0.0))
    with pytest.raises(ValueError, match='owll'):
        drawn({'owll': 0.1})


def test_masks_and_panoptic_results(inferencer, tmp_path):
    from mmengine.structures import InstanceData, PixelData
    from pycocotools import mask as coco_mask

    masks = torch.zeros(1, 10, 12, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    instances = InstanceData(
        masks=masks, labels=torch.tensor([1]), scores=torch.tensor([0.5]), bboxes=torch.zeros(1, 4)
    )
    segments = torch.tensor([[[0, 1, 3], [1001, 2, 2002]]])
    sample = DetDataSample(pred_instances=instances, pred_panoptic_seg=PixelData(sem_seg=segments))
    result = inferencer.pred2dict(sample)
    assert result['bboxes'] == [[3, 2, 9, 5]]
    assert np.array_equal(coco_mask.decode(result['masks'])[..., 0], masks[0].numpy())
    ids = result['panoptic_seg'].astype(int) @ [1, 256, 65536]
    assert ids.tolist() == [[0, 1, 0], [1001, 2, 2002]]
    saved = inferencer.pred2dict(sample, str(tmp_path))
    picture = cv2.imread(saved['panoptic_seg_path'])[..., ::-1]
    assert np.array_equal(picture, result['panoptic_seg']) and 'panoptic_seg' not in saved


def test_prompts(inferencer):
    array = np.zeros((4, 4, 3))
    given = inferencer._with_prompts(['a.png', array], {'text': 'cat . dog', 'stuff_text': None}, True)
    assert given[0] == {'img_path': 'a.png', 'custom_entities': True, 'text': 'cat . dog'} and given[1]['img'] is array
    with pytest.raises(ValueError, match='1 values of text for 2'):
        inferencer._with_prompts(['a.png', 'b.png'], {'text': ['cat']}, False)


def test_inferencer_errors(files, tmp_path):
    with pytest.raises(ValueError, match='model, or weights'):
        DetInferencer()
    torch.save({'state_dict': {}}, tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match=r'bare\.pth carries no config'):
        DetInferencer(weights=str(tmp_path / 'bare.pth'))
    with pytest.raises(TypeError, match='int'):
        DetInferencer(3)
    with pytest.raises(ValueError, match='Import'):
        stored_config({'meta': {'cfg': 'import os'}}, 'x.pth')
    with pytest.raises(ValueError, match='unknown argument'):
        DetInferencer(str(files / 'config.py'), device='cpu')(str(files / 'pictures'), drawing=True)


def test_weights_of_version_2(files, tmp_path, inferencer):
    """The weights carry a config with the sections, and the names of the classes in the place, of 2.x."""
    model, test = Config.fromfile(files / 'config.py').model.to_dict(), {}
    model.pop('data_preprocessor')
    test['pipeline'] = [
        dict(type='LoadImageFromFile'),
        dict(
            type='MultiScaleFlipAug',
            img_scale=(96, 64),
            flip=False,
            transforms=[
                dict(type='Resize', keep_ratio=True),
                dict(type='RandomFlip'),
                dict(type='Normalize', mean=[0, 0, 0], std=[255, 255, 255], to_rgb=True),
                dict(type='Pad', size_divisor=32),
                dict(type='ImageToTensor', keys=['img']),
                dict(type='Collect', keys=['img']),
            ],
        ),
    ]
    test.update(type='CocoDataset', classes=CLASSES)
    old = Config(dict(model=model, data=dict(test=test)), format_python_code=False)
    meta = dict(cfg=old.pretty_text, CLASSES=CLASSES)
    torch.save({'state_dict': inferencer.model.state_dict(), 'meta': meta}, tmp_path / 'old.pth')
    from_old = DetInferencer(weights=str(tmp_path / 'old.pth'), device='cpu', show_progress=False)
    picture = str(files / 'pictures' / '0.png')
    a, b = (detect(picture, return_datasamples=True)['predictions'][0] for detect in (from_old, inferencer))
    same(a, b)
    assert from_old.model.dataset_meta['classes'] == CLASSES


def test_config_by_name():
    assert find_config('retinanet_r18_fpn_1x_coco').parent.name == 'retinanet'
    assert find_config('rtmdet-t').stem == 'rtmdet_tiny_8xb32-300e_coco'
    assert find_config('rtmdet-ins-x').stem == 'rtmdet-ins_x_8xb16-300e_coco'
    with pytest.raises(FileNotFoundError, match='Did you mean retinanet_r18_fpn_1x_coco'):
        find_config('retinanet_r18_fpn_1x_cocoo')


def test_list_models():
    names = DetInferencer.list_models(patterns='retinanet_r18')
    assert 'retinanet_r18_fpn_1x_coco' in names and all(name.startswith('retinanet_r18') for name in names)


def test_lazy_config(files, tmp_path):
    """Configs that name classes by import in place of strings."""
    lazy = CONFIG.replace("dict(type='LoadImageFromFile', backend_args=None)", 'dict(type=LoadImageFromFile)')
    lazy = lazy.replace("type='Resize'", 'type=Resize').replace("type='LoadAnnotations'", 'type=LoadAnnotations')
    lazy = lazy.replace("type='DetLocalVisualizer'", 'type=DetLocalVisualizer')
    lazy = lazy.replace("type='CocoDataset'", 'type=CocoDataset').replace("type='RetinaNet'", 'type=RetinaNet')
    (tmp_path / 'base.py').write_text('scale = (96, 64)')
    (tmp_path / 'lazy.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .base import *\n'
        'from mmdet.datasets import CocoDataset\n'
        'from mmdet.datasets.transforms import LoadAnnotations, LoadImageFromFile, Resize\n'
        'from mmdet.models.detectors import RetinaNet\n'
        'from mmdet.visualization import DetLocalVisualizer\n' + lazy
    )
    inferencer = DetInferencer(tmp_path / 'lazy.py', str(files / 'weights.pth'), device='cpu', show_progress=False)
    model = inferencer.model
    picture = str(files / 'pictures' / '0.png')
    plain = init_detector(files / 'config.py', str(files / 'weights.pth'), device='cpu')
    same(inferencer(picture, return_datasamples=True)['predictions'][0], inference_detector(plain, picture))
    assert model.dataset_meta['classes'] == CLASSES


def run_demo(name, *arguments):
    """Exit code of a demo that runs in this process."""
    from mmdet.apis.launch import run_tool

    demo = runpy.run_path(str(ROOT / 'demo' / name))
    return run_tool(demo['main'], demo['parse_args']([str(argument) for argument in arguments]))


def test_image_demo(files, tmp_path, capsys):
    thresholds = tmp_path / 'thresholds.json'
    thresholds.write_text('{"cat": {"threshold": 0.2}}')
    arguments = (files / 'pictures', files / 'weights.pth', '--out-dir', tmp_path, '--device', 'cpu')
    assert run_demo('image_demo.py', *arguments, '--batch-size', 2, '--class-thresholds', thresholds) == 0
    printed = capsys.readouterr().out
    assert '3 pictures,' in printed and 's per picture' in printed
    assert len(list((tmp_path / 'vis').iterdir())) == len(list((tmp_path / 'preds').iterdir())) == 3
    assert run_demo('image_demo.py', 'nowhere.png', files / 'weights.pth', '--device', 'cpu') == 1
    failure = capsys.readouterr().err
    assert 'nowhere.png' in failure and 'Traceback' not in failure


def test_video_demo(files, tmp_path, capsys):
    video, out = tmp_path / 'video.avi', tmp_path / 'out' / 'drawn.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for value in (0, 100, 200):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    config, weights = files / 'config.py', files / 'weights.pth'
    assert run_demo('video_demo.py', video, config, weights, '--out', out, '--device', 'cpu') == 0
    assert '3 frames' in capsys.readouterr().out
    assert int(cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert run_demo('video_demo.py', config, config, weights, '--out', out) == 1
    assert 'cannot be read as a video' in capsys.readouterr().err


def test_webcam_demo(files, monkeypatch, capsys):
    class Camera:
        def __init__(self, number):
            self.frames = [np.full((48, 64, 3), value, np.uint8) for value in (0, 200)] if number == 1 else None

        def isOpened(self):
            return self.frames is not None

        def read(self):
            return (True, self.frames.pop()) if self.frames else (False, None)

        def release(self):
            pass

    shown = []
    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(cv2, 'imshow', lambda name, image: shown.append(image))
    for name in ('namedWindow', 'waitKey', 'destroyAllWindows'):
        monkeypatch.setattr(cv2, name, lambda *args: -1)
    arguments = (files / 'config.py', files / 'weights.pth', '--device', 'cpu', '--camera-id')
    assert run_demo('webcam_demo.py', *arguments, 1) == 0
    assert len(shown) == 2 and shown[0].shape == (48, 64, 3) and '2 frames' in capsys.readouterr().out
    assert run_demo('webcam_demo.py', *arguments, 7) == 1
    assert 'camera 7' in capsys.readouterr().err


def test_a_name_without_weights_is_no_random_detector():
    with pytest.raises(NoWeightsError, match='no weights are known for yolox_m_8xb8-300e_coco'):
        DetInferencer('yolox-m', device='cpu')
    with pytest.raises(NoWeightsError, match='pretrained=False'):
        init_detector('yolox-m', device='cpu')
    assert init_detector('retinanet_r18', device='cpu', pretrained=False).dataset_meta['classes'][0] == 'person'
