"""Pictures of equal name, drawings and predictions for each of them, and one detector in several threads."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.fileio import dump
from mmengine.structures import InstanceData

from mmdet.apis import DetInferencer
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('US$', '$x^{')
NAMES = ['a/x/1.png', 'a/y/1.png', 'b/x/1.png', 'b/y/1.png']
CONFIG = f"""
default_scope = 'mmdet'
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[100] * 3, std=[50] * 3, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3)),
    neck=dict(type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3),
    bbox_head=dict(type='FCOSHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1,
        strides=[8, 16, 32], regress_ranges=((-1, 64), (64, 128), (128, 1e8)),
        norm_cfg=dict(type='GN', num_groups=2)),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
)
test_dataloader = dict(batch_size=4, dataset=dict(type='CocoDataset', ann_file='ann.json', data_prefix=dict(img='p/'),
    test_mode=True, metainfo=dict(classes={CLASSES}), pipeline=[
        dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]))
"""


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'tools' / 'analysis_tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config, annotations and four pictures of one name, of different sizes and brightness."""
    folder = tmp_path_factory.mktemp('project')
    images, annotations = [], []
    for i, name in enumerate(NAMES):
        (folder / 'p' / name).parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.RandomState(i).randint(0, 20, (48 + 16 * i, 80, 3)).astype(np.uint8) + 50 * i
        cv2.imwrite(str(folder / 'p' / name), picture)
        images.append(dict(id=i, file_name=name, height=48 + 16 * i, width=80))
        annotations.append(dict(id=i + 1, image_id=i, bbox=[8, 8, 40, 30], area=1200, iscrowd=0, category_id=1))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    (folder / 'ann.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    config = CONFIG.replace("ann_file='", f"data_root={str(folder)!r}, ann_file='")
    (folder / 'config.py').write_text(config)
    return folder


@pytest.fixture(scope='module')
def inferencer(folder):
    torch.manual_seed(0)
    made = DetInferencer(str(folder / 'config.py'), device='cpu')
    for key, value in made.model.named_parameters():
        if value.dim() > 1 and 'head' in key:
            torch.nn.init.normal_(value, std=(2 / value[0].numel()) ** 0.5)
    return made


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.*'))


def brightness(path):
    return int(np.median(cv2.imread(str(path)))) // 50


def test_each_picture_has_its_files(folder, inferencer, tmp_path):
    inputs = [str(folder / 'p' / name) for name in NAMES]
    results = inferencer(inputs, out_dir=tmp_path, no_save_pred=False, batch_size=3, pred_score_thr=0.99)
    assert files(tmp_path / 'vis') == NAMES
    assert files(tmp_path / 'preds') == [name.replace('png', 'json') for name in NAMES]
    for i, name in enumerate(NAMES):
        assert brightness(tmp_path / 'vis' / name) == i
        saved = json.loads((tmp_path / 'preds' / name).with_suffix('.json').read_text())
        assert saved == results['predictions'][i]


def test_four_threads_share_an_inferencer(folder, inferencer, tmp_path):
    """Pictures, predictions and files are those of the call, with bars and without; numbers count all."""
    arrays = [cv2.imread(str(folder / 'p' / name)) for name in NAMES]
    expected = [inferencer(array, return_vis=True) for array in arrays]
    before = inferencer.num_predicted_imgs

    def call(number):
        out = dict(out_dir=tmp_path, no_save_pred=False) if number % 2 else {}
        picture = str(folder / 'p' / NAMES[number % 4]) if number % 3 == 0 else arrays[number % 4]
        return inferencer([picture, arrays[0]], return_vis=True, batch_size=2, **out)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(24)))
    for number, result in enumerate(results):
        for i, right in enumerate((expected[number % 4], expected[0])):
            found, wanted = result['predictions'][i], right['predictions'][0]
            assert found['labels'] == wanted['labels']
            assert found['scores'] == pytest.approx(wanted['scores'], abs=1e-5)
            assert np.allclose(found['bboxes'], wanted['bboxes'], atol=0.01)
            assert result['visualization'][i].shape == right['visualization'][0].shape
            difference = np.abs(result['visualization'][i].astype(int) - right['visualization'][0])
            assert np.median(difference) == 0
    assert inferencer.num_predicted_imgs == before + 48
    odd = [number for number in range(24) if number % 2]
    paths = {number % 4 for number in odd if number % 3 == 0}
    arrays_drawn = sum(1 if number % 3 == 0 else 2 for number in odd)
    assert len(files(tmp_path / 'vis')) == len(files(tmp_path / 'preds')) == arrays_drawn + len(paths)


def test_batches_of_an_inferencer(folder, inferencer):
    inputs = [str(folder / 'p' / name) for name in NAMES]
    alone, together = (inferencer(inputs, batch_size=size)['predictions'] for size in (1, 4))
    for one, other in zip(alone, together, strict=True):
        assert one['scores'] == pytest.approx(other['scores'], abs=1e-5)
        assert np.allclose(one['bboxes'], other['bboxes'], atol=0.01)


def test_a_window_is_refused_before_anything_is_drawn(folder, inferencer, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    with pytest.raises(RuntimeError, match=r'no display.*out_dir'):
        inferencer(str(folder / 'p' / NAMES[0]), show=True)


# --------------------------------------------------------------------------------------------------- hook and tools


@pytest.fixture
def dataset(folder, default_scope):
    from mmdet.config import load_config

    return DATASETS.build(load_config(str(folder / 'config.py')).test_dataloader.dataset)


def sample(info):
    pred = InstanceData(bboxes=torch.tensor([[5.0, 5, 50, 40]]), labels=torch.tensor([1]), scores=torch.tensor([0.9]))
    return DetDataSample(metainfo=dict(img_path=info['img_path']), pred_instances=pred)


def hook_and_runner(dataset, work_dir, **options):
    visualizer = DetLocalVisualizer.get_instance(f'hook-{work_dir}')
    visualizer.dataset_meta = dataset.metainfo
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    runner = SimpleNamespace(work_dir=str(work_dir), timestamp='now', test_loop=loop, val_loop=loop, iter=0)
    return DetVisualizationHook(draw=True, **options), runner


def test_pictures_of_a_test_keep_their_folders(dataset, tmp_path):
    hook, runner = hook_and_runner(dataset, tmp_path, test_out_dir='show')
    hook.before_run(runner)
    hook.after_test_iter(runner, 0, {}, [sample(dataset.get_data_info(i)) for i in range(4)])
    assert files(tmp_path / 'now' / 'show') == NAMES
    assert [brightness(tmp_path / 'now' / 'show' / name) for name in NAMES] == [0, 1, 2, 3]


def test_pictures_of_a_test_are_those_that_the_pipeline_loaded(dataset, tmp_path):
    """Turned by their EXIF data only if the loader turns them: boxes refer to what it loaded."""
    pillow = pytest.importorskip('PIL.Image')
    exif = pillow.Exif()
    exif[0x0112] = 6
    pillow.fromarray(np.zeros((30, 60, 3), np.uint8)).save(tmp_path / 'turned.jpg', exif=exif)
    hook, runner = hook_and_runner(dataset, tmp_path, test_out_dir='show')
    hook.after_test_iter(runner, 0, {}, [sample(dict(img_path=str(tmp_path / 'turned.jpg')))])
    (drawn,) = (tmp_path / 'now').rglob('*.jpg')
    assert cv2.imread(str(drawn)).shape == (30, 60, 3)


def test_drawing_while_training_leaves_the_random_numbers_alone(dataset, tmp_path):
    hook, runner = hook_and_runner(dataset, tmp_path, interval=1)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    one = sample(dataset.get_data_info(0))
    one.pred_instances.masks = torch.ones(1, 48, 80, dtype=torch.bool)
    hook.after_val_iter(runner, 0, {}, [one])
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_run_does_not_wait_for_a_window(dataset, tmp_path, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    hook, runner = hook_and_runner(dataset, tmp_path, show=True)
    with pytest.raises(RuntimeError, match='--show-dir'):
        hook.before_run(runner)


def test_best_and_worst_pictures(folder, dataset, tmp_path):
    results = [
        dict(
            img_id=dataset.get_data_info(i)['img_id'],
            pred_instances=dict(
                bboxes=torch.tensor([[8.0, 8, 48, 38]]), scores=torch.tensor([0.9]), labels=torch.tensor([0])
            ),
        )
        for i in range(4)
    ]
    dump(results, str(tmp_path / 'results.pkl'))
    module = tool('analyze_results')
    module.main(module.parse_args([str(folder / 'config.py'), str(tmp_path / 'results.pkl'), str(tmp_path / 'out')]))
    for kind in ('good', 'bad'):
        assert files(tmp_path / 'out' / kind) == [name.replace('.png', '_1.000.png') for name in NAMES]


def test_browsed_pictures(dataset, tmp_path):
    twice = type('Twice', (), {'__len__': lambda self: 8, '__getitem__': lambda self, i: dataset[i % 4]})()
    twice.metainfo, twice.dataset = dataset.metainfo, dataset
    visualizer = DetLocalVisualizer(name=f'browse-{tmp_path}')
    tool('browse_dataset').browse(twice, visualizer, tmp_path / 'out')
    assert files(tmp_path / 'out') == sorted([*NAMES, *(name.replace('.png', '_2.png') for name in NAMES)])


def test_charts_of_classes_with_dollars(tmp_path):
    tool('confusion_matrix').plot_confusion_matrix(np.eye(3), (*CLASSES, 'background'), tmp_path)
    assert (tmp_path / 'confusion_matrix.png').stat().st_size > 1000
    tool('coco_error_analysis').plot(np.full((7, 101), 0.5), '$x^{', tmp_path / 'curve.png')
    assert (tmp_path / 'curve.png').stat().st_size > 1000
