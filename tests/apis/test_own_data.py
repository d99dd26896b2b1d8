"""From data to a config that trains."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import mmdet
from mmdet.apis.own_config import config_text
from mmdet.apis.own_data import Options, make_plan, write_annotations
from mmdet.apis.own_run import init, is_data, options_of
from mmdet.checks.config_check import check_config
from mmdet.cli.main import main
from mmdet.config import load_config
from mmdet.errors import UserError, UserFileError, UserValueError
from mmdet.zoo import NoWeightsError

CLASSES = ('square', 'disc')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Twelve pictures of squares and discs, as YOLO."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    (root / 'images').mkdir(parents=True)
    (root / 'labels').mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = Image.fromarray(rng.integers(0, 90, (96, 128, 3), dtype=np.uint8))
        draw, lines = ImageDraw.Draw(picture), []
        for label in rng.integers(0, 2, 3):
            x, y, side = rng.integers(0, 90), rng.integers(0, 60), rng.integers(20, 36)
            draw.rectangle((x, y, x + side, y + side), (250, 0, 0)) if label == 0 else draw.ellipse(
                (x, y, x + side, y + side), (0, 250, 0)
            )
            lines.append(f'{label} {(x + side / 2) / 128} {(y + side / 2) / 96} {side / 128} {side / 96}\n')
        picture.save(root / 'images' / f'{number}.png')
        (root / 'labels' / f'{number}.txt').write_text(''.join(lines))
    (root / 'data.yaml').write_text('train: images\nnames: [square, disc]\n')
    return root


@pytest.mark.parametrize(
    'model', ['rtmdet-tiny', 'retinanet_r18', 'cascade-rcnn_r50', 'dino', 'yolox-tiny', 'ssd300', 'rtdetr-r18']
)
def test_configs_are_sound_for_all_kinds_of_models(data, tmp_path, model):
    plan = make_plan(data, Options(model=model, weights=False, batch=2, epochs=1))
    write_annotations(plan, tmp_path)
    path = tmp_path / 'config.py'
    path.write_text(config_text(plan, tmp_path, str(tmp_path / 'run')))
    cfg = load_config(path)
    assert [f for f in check_config(cfg, path) if f.level != 'note'] == []
    assert cfg.train_cfg.max_epochs == 1 and cfg.load_from is None and cfg.train_dataloader.batch_size == 2
    found = json.dumps(cfg.model._to_lazy_dict(), default=str)
    assert '"num_classes": 2' in found and '"num_classes": 80' not in found
    assert cfg.model.backbone.get('init_cfg') is None
    assert max(len(line) for line in path.read_text().splitlines()) <= 150 and len(path.read_text().splitlines()) < 90


def test_weights_of_classes_follow_their_number(data):
    plan = make_plan(data, Options('detr_r50_8xb2-150e_coco', weights=False, batch=1))
    plan.cfg.model.bbox_head.loss_cls.class_weight = [1.0] * 80 + [0.1]
    assert 'class_weight=[1.0, 1.0, 0.1]' in config_text(plan, data, 'run')


def test_choices_and_their_reasons(data):
    plan = make_plan(data, Options(weights=False))
    assert {split: len(group) for split, group in plan.data.splits.items()} == {'train': 10, 'val': 2}
    assert plan.batch == 1 and plan.epochs == 100 and plan.size == (128, 96)
    assert plan.lr == pytest.approx(0.004 * (1 / 256) ** 0.5)
    subjects = [subject for subject, _ in plan.reasons]
    assert subjects[0] == 'data' and {'classes', 'model', 'weights', 'size', 'batch', 'rate', 'epochs'} <= set(subjects)


def test_what_is_asked_for_is_taken(data):
    plan = make_plan(data, Options('retinanet_r18', 'mine.pth', epochs=3, batch=4, size=(320, 200), lr=0.5, seed=7))
    assert (plan.weights, plan.epochs, plan.batch, plan.size, plan.lr, plan.seed) == (
        'mine.pth', 3, 4, (320, 224), 0.5, 7,
    )  # fmt: skip
    text = config_text(plan, data, 'run')
    assert "load_from = 'mine.pth'" in text and 'frozen_stages' not in text and 'lr=0.5' in text


def test_published_weights_are_the_default(data):
    plan = make_plan(data, Options('rtmdet-tiny', batch=1))
    assert plan.weights.endswith('rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth')


@pytest.mark.parametrize(
    'model, error, words',
    [
        ('mask-rcnn_r50', UserValueError, 'learns masks, but .* has boxes alone'),
        ('yolox-m', NoWeightsError, 'no weights are known for yolox_m'),
        ('rtmdet-tinny', UserFileError, 'Did you mean rtmdet_tiny'),
        ('soft_teacher', UserError, 'soft'),
    ],
)
def test_models_that_do_not_fit(data, model, error, words):
    with pytest.raises(error, match=words):
        make_plan(data, Options(model=model))


def test_init_writes_once(data, tmp_path, capsys):
    options = Options('retinanet_r18', False, epochs=1)
    path = init(data, options, out=tmp_path / 'mine')
    assert path == tmp_path / 'mine' / 'config.py' and (tmp_path / 'mine' / 'val.json').is_file()
    shown = capsys.readouterr().err
    assert 'read as yolo' in shown and '2 pictures were set apart' in shown
    with pytest.raises(UserFileError, match='--force'):
        init(data, options, out=tmp_path / 'mine')


def test_a_missing_picture_stops(tmp_path):
    (tmp_path / 'images').mkdir()
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=9, height=9) for i in range(4)],
        categories=[dict(id=1, name='x')],
        annotations=[dict(id=1, image_id=0, category_id=1, bbox=[1, 1, 5, 5], area=25, iscrowd=0)],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    with pytest.raises(UserValueError, match='missing image'):
        init(tmp_path, Options('retinanet_r18', False), out=tmp_path / 'out')


def test_other_processes_wait_for_the_config_of_the_first(data, tmp_path, monkeypatch):
    import os
    import threading
    import time
    from argparse import Namespace

    from mmdet.apis import own_run

    path = tmp_path / 'data' / 'config.py'
    path.parent.mkdir()
    path.write_text('of an earlier job')
    os.utime(path, (0, 0))
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr(own_run, 'options_of', lambda args: Options('retinanet_r18', False))
    threading.Timer(0.3, lambda: path.write_text('of this job')).start()
    args = Namespace(config=str(data), work_dir=str(tmp_path), resume=None)
    started = time.monotonic()
    assert own_run.train_on_data(args) == path and path.read_text() == 'of this job'
    assert time.monotonic() - started > 0.2
    monkeypatch.setattr(own_run, 'LONGEST_WAIT', 1)
    os.utime(path, (0, 0))
    with pytest.raises(UserFileError, match='has not written'):
        own_run.train_on_data(args)


def test_the_doctor_looks_at_data(data, capsys):
    assert main(['doctor', str(data)]) == 0
    assert 'train: ' in capsys.readouterr().out


def test_what_is_data(data, tmp_path):
    assert is_data(str(data)) and is_data(str(data / 'data.yaml'))
    config = tmp_path / 'config.yaml'
    config.write_text('model: {type: RetinaNet}\n')
    assert not is_data(str(config)) and not is_data('rtmdet-tiny') and not is_data('mmdet::x/y.py')


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--scratch', '--weights', 'x.pth'], '--scratch means no weights'),
        (['--size', '640by480'], "not '640by480'"),
        (['--epochs', '0'], '--epochs must be positive'),
        (['--model', 'rtmdet-tiny', '--data-format', 'yolov9'], "no format 'yolov9'"),
    ],
)
def test_mistakes_on_the_command_line(data, tmp_path, capsys, arguments, words):
    assert main(['init', str(data), '--out', str(tmp_path / 'x'), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_options_of_data_are_not_for_configs(capsys):
    assert main(['train', 'rtmdet-tiny', '--epochs', '3']) == 1
    assert '--epochs is for a folder of data' in capsys.readouterr().err


def test_from_data_to_predictions(data, tmp_path, monkeypatch, default_scope):
    """The three calls, on the smallest budget."""
    from mmdet import Detector

    monkeypatch.chdir(tmp_path)
    options = dict(epochs=1, size=64, batch=4, workers=0)
    detector = Detector('retinanet_r18', pretrained=False).train(data, work_dir='run', **options)
    assert detector.weights.startswith('run/best_') and detector.classes == CLASSES
    metrics = detector.val()
    assert 'coco/bbox_mAP' in metrics and detector.val(data, split='train').keys() == metrics.keys()
    results = detector.predict(data / 'images', threshold=0.0, batch=5)
    assert len(results) == 12 and results.skipped == [] and set(results[0].names) <= set(CLASSES)
    again = Detector('run')
    assert again.weights == detector.weights and again.config == detector.config.relative_to('.')
    assert main(['val', 'run', '--work-dir', 'tested']) == 0


def test_little_is_said_before_the_first_bar(data, tmp_path, default_scope):
    """By the command itself, of data with a mistake: fifteen lines at most, and the doctor's is one of them."""
    own = tmp_path / 'own'
    shutil.copytree(data, own)
    label = own / 'labels' / '0.txt'
    label.write_text(label.read_text() * 2)
    given = ['train', own, '--model', 'rtmdet-tiny', '--scratch', '--epochs', 1, '--batch', 4, '--size', 64]
    given += ['--workers', 0, '--work-dir', tmp_path / 'run']
    environment = os.environ | dict(PYTHONPATH=str(Path(mmdet.__file__).parents[1]))
    command = [sys.executable, '-m', 'mmdet', *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = (done.stderr + done.stdout).splitlines()
    before = shown[: next(number for number, line in enumerate(shown) if line.startswith('epoch 1/1'))]
    assert len(before) <= 15 and sum(line.startswith('doctor') for line in before) == 1, '\n'.join(shown)


def test_no_such_option():
    from mmdet import Detector

    with pytest.raises(UserValueError, match="no option 'epoch'; it has batch, epochs"):
        Detector('retinanet_r18', pretrained=False).train('x', epoch=3)


def test_arguments_become_options():
    from argparse import Namespace

    args = Namespace(
        size='640x480', weights=None, scratch=True, epochs=None, batch=2, lr=None, workers=0, seed=1, val_share=0.1,
        data_format=None, model=None,
    )  # fmt: skip
    assert options_of(args) == Options(weights=False, batch=2, workers=0, size=(640, 480), seed=1, share=0.1)
