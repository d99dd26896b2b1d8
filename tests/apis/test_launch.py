"""A mistake is one sentence, whatever layer found it; faults of the program keep their traceback."""

import argparse
import errno
import os
import shutil
import urllib.request
from importlib.util import find_spec

import pytest
from torch.utils.data import DataLoader, Dataset

from mmdet.apis.launch import run_tool
from mmdet.config import load_config
from mmdet.engine import DetRunner
from mmdet.engine.optimizers.optim_wrapper import NonFiniteLossError
from mmdet.errors import UserError, UserKeyError, UserValueError
from mmdet.registry import DATASETS, MODELS, VISUALIZERS
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.log_packages import PACKAGES


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserValueError("image 'a.jpg' cannot be decoded: (3 bytes)")


class Unnamed(Broken):
    def __getitem__(self, index):
        raise UserKeyError('proposals.pkl has no proposals for a.jpg')


def said(tool, capsys) -> str:
    """What a tool that fails prints."""
    assert run_tool(tool, argparse.Namespace()) == 1
    return capsys.readouterr().err


def config(tmp_path, text, name='config.py'):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a = = 1\n', 'SyntaxError: invalid syntax'),
        ('a = b\n', "NameError: name 'b' is not defined"),
        ("_base_ = './nowhere.py'\n", 'FileNotFoundError'),
        ("custom_imports = dict(imports=['no_such_module'])\n", 'no_such_module'),
        ('import no_such_module\n', 'no_such_module'),
    ],
)
def test_configs_that_cannot_be_read(text, words, tmp_path, capsys):
    path = config(tmp_path, text)
    message = said(lambda args: load_config(path), capsys)
    assert message.startswith(f"error: config '{path}' cannot be read: ") and words in message
    assert 'Traceback' not in message


def test_options_that_do_not_fit(tmp_path, capsys):
    path = config(tmp_path, 'a = [1, 2]\n')
    assert 'do not fit' in said(lambda args: load_config(path, {'a.7': 3}), capsys)


@pytest.mark.parametrize(
    ('tool', 'words'),
    [
        (lambda args: load_config('nowhere.py'), "error: There is no config file 'nowhere.py'."),
        (lambda args: MODELS.build(dict(type='RetinaHaed')), 'Did you mean RetinaHead'),
        (lambda args: MODELS.build(dict(type='FocalLoss', gamm=2)), "has no argument 'gamm'"),
        (lambda args: read_checkpoint('nowhere.pth'), "error: There is no checkpoint 'nowhere.pth'."),
        (lambda args: DATASETS.build(dict(type='CocoDataset', ann_file='no.json')), "'no.json' does not exist"),
    ],
)
def test_files_and_names(tool, words, capsys):
    message = said(tool, capsys)
    assert words in message and message.count('\n') == 1


def test_a_damaged_checkpoint(tmp_path, capsys):
    (tmp_path / 'a.pth').write_bytes(b'nonsense')
    assert 'a.pth was refused: it is damaged or not a file of weights' in said(
        lambda args: read_checkpoint(tmp_path / 'a.pth'), capsys
    )


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    ('dataset', 'sentence'),
    [
        (Broken(), "image 'a.jpg' cannot be decoded: (3 bytes)"),
        (Unnamed(), 'proposals.pkl has no proposals for a.jpg'),
    ],
)
def test_broken_data_in_a_worker_of_the_loader(workers, dataset, sentence, capsys):
    loader = DataLoader(dataset, num_workers=workers)
    assert said(lambda args: next(iter(loader)), capsys) == f'error: {sentence}\n'
    with pytest.raises(type(caught(dataset))) as failure:  # a script of one's own reads the same
        next(iter(loader))
    assert str(failure.value) == sentence
    assert (failure.value.worker_traceback is not None) == bool(workers)


def caught(dataset):
    with pytest.raises(UserError) as failure:
        dataset[0]
    return failure.value


def test_the_traceback_of_a_worker_is_there_when_asked_for(monkeypatch, capsys):
    monkeypatch.setenv('MMDET_DEBUG', '1')
    with pytest.raises(UserValueError):
        run_tool(lambda args: next(iter(DataLoader(Broken(), num_workers=1))), argparse.Namespace())
    assert 'Original Traceback' in capsys.readouterr().err


def no_space(args):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize(
    ('tool', 'sentence'),
    [
        (no_space, 'No space left on device'),
        (lambda args: os.mkdir('/dev/null/logs'), "'/dev/null/logs': Not a directory"),
        (lambda args: os.rename('nowhere', 'elsewhere'), "'nowhere' -> 'elsewhere': No such file or directory"),
        (lambda args: urllib.request.urlopen('http://127.0.0.1:9'), '<urlopen error [Errno 111] Connection refused>'),
    ],
)
def test_what_files_disks_and_addresses_refuse(tool, sentence, capsys):
    assert said(tool, capsys) == f'error: {sentence}\n'


def run_in(folder):
    return lambda args: DetRunner(model=dict(type='FCOS'), work_dir=str(folder))


def test_folders_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    assert said(run_in(tmp_path / 'file'), capsys).endswith("file' cannot be written: File exists\n")
    assert said(run_in(tmp_path / 'file' / 'run'), capsys).endswith("file/run' cannot be written: Not a directory\n")
    monkeypatch.setattr(os, 'access', lambda *args: False)
    assert said(run_in(tmp_path / 'run'), capsys).endswith("run' cannot be written: Permission denied\n")
    monkeypatch.undo()
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: argparse.Namespace(free=0))
    assert said(run_in(tmp_path / 'run'), capsys).endswith("run' cannot be written: No space left on device\n")


ABSENT = [name for name in PACKAGES if find_spec(PACKAGES[name]) is None]


@pytest.mark.parametrize('name', ABSENT)
def test_packages_of_loggers(name, tmp_path, capsys):
    backends = [dict(type='LocalVisBackend'), dict(type=name)]
    visualizer = dict(type='DetLocalVisualizer', vis_backends=backends, name=f'absent {name}', save_dir='nowhere')
    message = said(lambda args: VISUALIZERS.build(visualizer), capsys)
    assert message == (
        f'error: vis_backends[1]: {name} needs the package {PACKAGES[name]}, which is not installed: '
        f'pip install {PACKAGES[name]}, or leave {name} out\n'
    )
    visualizer = dict(type='Visualizer', vis_backends=dict(type=name))  # mmengine's own
    runner = lambda args: DetRunner(model=dict(type='FCOS'), work_dir=str(tmp_path), visualizer=visualizer)
    assert f'error: vis_backends[0]: {name} needs the package {PACKAGES[name]}' in said(runner, capsys)


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    def fault(args):
        raise ValueError('too many values to unpack')

    with pytest.raises(ValueError, match='unpack'):
        run_tool(fault, argparse.Namespace())
    monkeypatch.setenv('MMDET_DEBUG', '1')
    with pytest.raises(UserError):
        run_tool(lambda args: load_config('nowhere.py'), argparse.Namespace())


def test_errors_that_are_more_than_a_value():
    assert issubclass(NonFiniteLossError, UserError) and issubclass(NonFiniteLossError, FloatingPointError)
