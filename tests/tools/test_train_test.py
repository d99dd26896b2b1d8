"""The tools as a user calls them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / 'tests' / 'engine' / 'toy_config.py'
ENV = dict(os.environ, PYTHONPATH=str(ROOT / 'tests' / 'engine'), OMP_NUM_THREADS='1')


def tool(name, *args, **kwargs):
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, **kwargs)


def start(*args, **options):
    command = [sys.executable, '-u', str(ROOT / 'tools' / 'train.py'), *map(str, args)]
    options |= dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV)
    # a shell lets its background jobs ignore Ctrl-C, and they hand that on
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize('name', ['train.py', 'test.py', 'replay.py', 'config_check.py', 'print_config.py'])
def test_help_needs_no_heavy_import(name):
    command = [sys.executable, '-X', 'importtime', str(ROOT / 'tools' / name), '--help']
    done = subprocess.run(command, capture_output=True, text=True, env=ENV)
    assert done.returncode == 0 and 'usage' in done.stdout
    imported = {line.rsplit('|', 1)[-1].strip().split('.')[0] for line in done.stderr.splitlines()}
    assert not imported & {'torch', 'numpy', 'mmengine', 'mmcv', 'cv2'}


@pytest.mark.parametrize(
    'name',
    sorted({str(path.relative_to(ROOT / 'tools')) for path in (ROOT / 'tools').rglob('*.py')} - {'launch.py'}),
)
def test_help_needs_no_torch(name):  # but launch.py, whose options are torchrun's own
    command = [sys.executable, '-X', 'importtime', str(ROOT / 'tools' / name), '--help']
    done = subprocess.run(command, capture_output=True, text=True, env=ENV)
    assert done.returncode == 0 and 'usage' in done.stdout
    imported = {line.rsplit('|', 1)[-1].strip().split('.')[0] for line in done.stderr.splitlines()}
    assert not imported & {'torch', 'mmengine', 'mmcv', 'pycocotools', 'matplotlib', 'scipy'}


def test_help_names_the_flags_of_3x():
    train, test = tool('train.py', '--help').stdout, tool('test.py', '--help').stdout
    for flag in ('--work-dir', '--amp', '--auto-scale-lr', '--resume', '--cfg-options', '--launcher'):
        assert flag in train
    for flag in ('--work-dir', '--out', '--show', '--show-dir', '--wait-time', '--cfg-options', '--launcher', '--tta'):
        assert flag in test


def test_wrong_config_path_gives_nearest_names():
    done = tool('train.py', ROOT / 'configs' / 'retinanet' / 'retinanet_r50_fpn_1x_cocoo.py')
    assert done.returncode == 1
    assert done.stderr.startswith('error: There is no config file')
    assert 'retinanet_r50_fpn_1x_coco.py' in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['model.type=ToyModell'], "'ToyModell' is not in the 'model' registry of mmdet. Did you mean ToyModel"),
        (['model.dropuot=0.1'], "ToyModel has no argument 'dropuot'. Did you mean dropout?"),
        (['train_dataloader.dataset.type=ToyDatset'], 'Did you mean ToyDataset'),
        (['train_dataloader.dataset.lenght=3'], 'Did you mean length?'),
        (['val_evaluator.type=ToyMetrik'], 'Did you mean ToyMetric'),
        (['default_hooks.logger.intervall=3'], 'Did you mean interval'),
        (['train_cfg.max_epoch=3'], 'Did you mean max_epochs?'),
        (['optim_wrapper.optimizer.type=SDG'], 'Did you mean'),
        (['optim_wrapper.optimizer.momentumm=0.9'], 'Did you mean momentum?'),
    ],
)
def test_mistakes_in_the_config_are_one_message(options, message, tmp_path):
    done = tool('train.py', TOY, '--work-dir', tmp_path, '--cfg-options', *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.slow
def test_train_resume_and_test_in_a_path_with_spaces(tmp_path):
    folder = tmp_path / 'my work dir'
    done = tool('train.py', TOY, '--work-dir', folder, '--cfg-options', 'train_cfg.max_epochs=1', '--auto-scale-lr')
    assert done.returncode == 0, done.stderr
    done = tool('train.py', TOY, '--work-dir', folder, '--resume')
    assert done.returncode == 0, done.stderr
    assert (folder / 'epoch_3.pth').is_file()
    done = tool('test.py', TOY, folder / 'epoch_3.pth', '--work-dir', folder)
    assert done.returncode == 0 and 'mAP' in done.stdout + done.stderr
    done = tool('test.py', TOY, folder / 'epoch_4.pth', '--work-dir', folder)
    assert done.returncode == 1 and 'There is no checkpoint' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('hook', ['', '.checkpoint', '.logger', '.visualization', '.progress'])
def test_hooks_that_a_config_leaves_out(hook, tmp_path):
    options = [f'default_hooks{hook}=None', 'train_cfg.max_epochs=1']
    done = tool('train.py', TOY, '--work-dir', tmp_path, '--cfg-options', *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'epoch_1.pth').is_file() != (hook == '.checkpoint')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'code', 'words'),
    [
        (signal.SIGINT, 130, 'The last checkpoint is'),
        (signal.SIGTERM, 143, 'SIGTERM: saved iter_'),
        (signal.SIGUSR1, 138, 'SIGUSR1: saved iter_'),
    ],
)
def test_signals(number, code, words, tmp_path):
    process = start(TOY, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=100000')
    deadline = time.monotonic() + 60
    while not (tmp_path / 'last_checkpoint').exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output[-2000:]
    assert words in output
    assert 'Traceback' not in output
    resumed = tool('train.py', TOY, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_epochs=1')
    assert resumed.returncode == 0
    name = (tmp_path / 'last_checkpoint').read_text()
    assert (tmp_path / name).is_file()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'killpg'), reason='needs process groups')
def test_a_signal_to_the_whole_group_leaves_the_workers_at_work(tmp_path):
    """What `timeout` and job schedulers do: every process of the job gets the signal, and training still saves."""
    options = [
        'train_cfg.max_epochs=100000',
        'train_dataloader.num_workers=2',
        'train_dataloader.persistent_workers=True',
    ]
    process = start(TOY, '--work-dir', tmp_path, '--cfg-options', *options, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / 'last_checkpoint').exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output[-2000:]
    assert 'SIGTERM: saved iter_' in output and 'Traceback' not in output
