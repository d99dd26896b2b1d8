"""A quiet console: what passes, the header, the lines of epochs, functions as hooks, trackers."""

import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmdet.engine import console
from mmdet.engine.hooks import FunctionHook, console_hook, progress_hook
from mmdet.engine.hooks.console_hook import duration
from mmdet.engine.runner import DetRunner
from mmdet.errors import UserTypeError, UserValueError

TOY = Path(__file__).parent / 'toy_config.py'


def toy(tmp_path, **options):
    cfg = Config.fromfile(str(TOY))
    cfg.work_dir, cfg.console = str(tmp_path / 'work'), 'quiet'
    cfg.merge_from_dict(options)
    return cfg


@pytest.fixture
def lines(monkeypatch):
    """What a run writes to its console."""
    found = []
    real = console.make_quiet

    def make_quiet(logger):
        real(logger)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                stream = SimpleNamespace(write=found.append, flush=lambda: None)
                handler.setStream(stream)

    monkeypatch.setattr(console, 'make_quiet', make_quiet)
    monkeypatch.setattr(warnings, 'showwarning', warnings.showwarning)
    return found


def test_a_run_is_a_header_and_a_line_for_each_epoch(tmp_path, lines, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY.parent))
    runner = DetRunner.from_cfg(toy(tmp_path))
    warnings.warn('something old', UserWarning, stacklevel=1)
    runner.train()
    text = ''.join(lines).splitlines()
    first = next(i for i, line in enumerate(text) if line.startswith('epoch'))
    assert first <= 15 and text[first - 1].startswith('  log ')
    assert any(line.startswith('  data      32 pictures of 2 classes (a, b) to train on, 8 to') for line in text)
    epochs = [line for line in text if line.startswith('epoch ')]
    assert [line[:9] for line in epochs] == ['epoch 1/3', 'epoch 2/3', 'epoch 3/3']
    assert all(', loss ' in line and ', mAP 0.' in line for line in epochs) and '(the best so far)' in epochs[0]
    log = next((tmp_path / 'work').rglob('*.log')).read_text()
    assert all(line in log for line in epochs) and 'System environment' in log and 'something old' in log
    assert 'System environment' not in ''.join(lines)


def test_a_resumed_run_knows_the_best_epoch(tmp_path, lines, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY.parent))
    DetRunner.from_cfg(toy(tmp_path, **{'train_cfg.max_epochs': 1})).train()
    lines.clear()
    DetRunner.from_cfg(toy(tmp_path, resume=True, **{'train_cfg.max_epochs': 2})).train()
    text = ''.join(lines)
    assert '  start     goes on from' in text and ' (best 0.160 at epoch 1), ' in text


def test_without_validation_and_in_steps(tmp_path, lines, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY.parent))
    monkeypatch.setattr(console_hook, 'SILENCE', 0)  # a line for each step, as after a minute of silence
    loop = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100)
    DetRunner.from_cfg(toy(tmp_path, train_cfg=dict(_delete_=True, **loop), param_scheduler=[])).train()
    text = ''.join(lines)
    assert '  step 2/4, ' in text and ' left\n' in text and '4 steps of 4 pictures' in text


def test_what_passes_to_the_console():
    logger = logging.getLogger('quiet-test')
    handler, found = logging.StreamHandler(), []
    handler.setStream(SimpleNamespace(write=found.append, flush=lambda: None))
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel('INFO')
    before = warnings.showwarning
    try:
        console.make_quiet(logger)
        assert console.is_quiet(logger)
        logger.info('detail')
        console.say(logger, 'line')
        for _ in range(2):
            logger.warning('careful')
        logger.warning('"x" will be deprecated in future.')
        logger.error('bad')
    finally:
        warnings.showwarning = before
    assert ''.join(found).splitlines() == ['line', 'warning: careful', 'error: bad']


def test_a_wrong_mode_is_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOY.parent))
    with pytest.raises(UserValueError, match="'quiet' or 'full', not 'loud'"):
        DetRunner.from_cfg(toy(tmp_path, console='loud'))


@pytest.mark.parametrize('seconds, text', [(5, '0:05'), (65.4, '1:05'), (3661, '1:01:01')])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_trackers_are_added_once():
    cfg = Config(dict(visualizer=dict(type='DetLocalVisualizer', vis_backends=[dict(type='TensorboardVisBackend')])))
    console.add_loggers(cfg, ['tensorboard', 'wandb'])
    assert [each.type for each in cfg.visualizer.vis_backends] == ['TensorboardVisBackend', 'WandbVisBackend']
    bare = Config({})
    console.add_loggers(bare, ['mlflow'])
    assert [each.type for each in bare.visualizer.vis_backends] == ['LocalVisBackend', 'MLflowVisBackend']


def test_functions_as_hooks():
    seen = []
    hook = FunctionHook(after_val_epoch=lambda runner, metrics: seen.append(metrics))
    hook.after_val_epoch('runner', metrics=dict(mAP=1))
    hook.before_run('runner')
    assert seen == [dict(mAP=1)]
    with pytest.raises(UserValueError, match="no moment 'after_lunch'"):
        FunctionHook(after_lunch=print)
    with pytest.raises(UserTypeError, match='must be a function, not int'):
        FunctionHook(after_val_epoch=3)


def test_notebooks_get_a_bar(monkeypatch):
    class ZMQInteractiveShell:
        pass

    assert not progress_hook.in_notebook()
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace(get_ipython=ZMQInteractiveShell))
    assert progress_hook.in_notebook() and progress_hook.ProgressHook().enabled
