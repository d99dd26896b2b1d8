"""A run that is cut off and resumed equals the run that was not."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import time

import pytest
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from torch.utils.data import ConcatDataset, DataLoader, Sampler, SequentialSampler
from toy_runs import build, fingerprint, toy_config

from mmdet.datasets.samplers import GroupMultiSourceSampler, MultiSourceSampler
from mmdet.engine.runner.loops import is_infinite
from mmdet.utils.checkpoint import read_checkpoint, save_checkpoint

EMA = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.01, gamma=10, priority=49)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=30, val_interval=7)
EVERY_3 = dict(type='CheckpointHook', interval=3, by_epoch=False, save_best='auto', max_keep_ckpts=2)
INFINITE = dict(type='InfiniteSampler', shuffle=True)
ASPECT = dict(type='AspectRatioBatchSampler')

CASES = {
    'epochs': {},
    'mid-epoch': dict(default_hooks__checkpoint=EVERY_3),
    'mid-epoch, ema': dict(default_hooks__checkpoint=EVERY_3, custom_hooks=[EMA]),
    'two workers': dict(default_hooks__checkpoint=EVERY_3, train_dataloader__num_workers=2),
    'persistent workers': dict(
        default_hooks__checkpoint=EVERY_3,
        train_dataloader__num_workers=1,
        train_dataloader__persistent_workers=True,
    ),
    'accumulation': dict(default_hooks__checkpoint=EVERY_3, optim_wrapper__accumulative_counts=4),
    'accumulation over epochs': dict(optim_wrapper__accumulative_counts=3),
    'iterations, infinite sampler': dict(
        train_cfg=ITERATIONS, train_dataloader__sampler=INFINITE, default_hooks__checkpoint=EVERY_3
    ),
    'iterations, finite sampler': dict(train_cfg=ITERATIONS, default_hooks__checkpoint=EVERY_3),
    'aspect ratio batches': dict(default_hooks__checkpoint=EVERY_3, train_dataloader__batch_sampler=ASPECT),
    'iterations, aspect ratio batches': dict(
        train_cfg=ITERATIONS, default_hooks__checkpoint=EVERY_3, train_dataloader__batch_sampler=ASPECT
    ),
    'scaler': dict(
        default_hooks__checkpoint=EVERY_3,
        optim_wrapper__type='AmpOptimWrapper',
        optim_wrapper__dtype='float16',
        optim_wrapper__loss_scale=dict(init_scale=2.0**30, growth_interval=4),
    ),
    'compiled': dict(default_hooks__checkpoint=EVERY_3, custom_hooks=[EMA], compile=dict(backend='eager')),
    'no seed given': dict(default_hooks__checkpoint=EVERY_3, randomness=dict(seed=None)),
    'different ranks seeded differently': dict(
        default_hooks__checkpoint=EVERY_3, randomness=dict(seed=3, diff_rank_seed=True)
    ),
    'one cycle': dict(
        default_hooks__checkpoint=EVERY_3,
        param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=30, by_epoch=False)],
    ),
    'early stopping': dict(
        custom_hooks=[dict(type='EarlyStoppingHook', monitor='mAP', rule='greater', min_delta=9.0, patience=2)]
    ),
}


class CutOff(Exception):
    pass


class CutOffHook(Hook):
    """Ends the process's work without a chance to save, as SIGKILL does."""

    priority = 'LOWEST'

    def __init__(self, iteration=None, validation=None):
        self.iteration, self.validation = iteration, validation

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.iteration == runner.iter:
            raise CutOff

    def before_val_epoch(self, runner):
        if self.validation == runner.iter:
            raise CutOff


def train(cfg, cut=None, resume=False):
    if resume:
        cfg.resume = True
    runner = build(cfg)
    if cut is not None:
        runner.register_hook(cut)
        with pytest.raises(CutOff):
            runner.train()
    else:
        runner.train()
    return runner


@pytest.mark.parametrize('name', CASES)
def test_resumed_run_equals_whole_run(name, tmp_path):
    changes = dict(CASES[name])
    first = train(toy_config(tmp_path / 'whole', **changes))
    if changes.get('randomness') == dict(seed=None):
        changes['randomness'] = dict(seed=first.seed)  # the cut-off run draws none of its own, the resumed one reads it
    train(toy_config(tmp_path / 'cut', **changes), CutOffHook(iteration=13))
    if name == 'no seed given':
        changes['randomness'] = dict(seed=None)
    second = train(toy_config(tmp_path / 'cut', **changes), resume=True)
    assert second.resume_state.path is not None
    assert fingerprint(second) == fingerprint(first)


@pytest.mark.parametrize('iteration', [8, 16, 24])
def test_validation_that_was_cut_off_is_made_up_for(iteration, tmp_path):
    whole = train(toy_config(tmp_path / 'whole', custom_hooks=[EMA]))
    train(toy_config(tmp_path / 'cut', custom_hooks=[EMA]), CutOffHook(validation=iteration))
    resumed = train(toy_config(tmp_path / 'cut', custom_hooks=[EMA]), resume=True)
    assert fingerprint(resumed) == fingerprint(whole)
    assert sorted(p.name for p in (tmp_path / 'cut').glob('*.pth')) == sorted(
        p.name for p in (tmp_path / 'whole').glob('*.pth')
    )


class Forever(Sampler):
    infinite = True

    def __iter__(self):
        return itertools.repeat(0)


class NotInfinite(SequentialSampler):
    pass


def test_a_sampler_says_itself_that_it_never_ends():
    data = list(range(4))
    samplers = (Forever(), InfiniteSampler(data), NotInfinite(data), SequentialSampler(data))
    assert [is_infinite(DataLoader(data, sampler=sampler)) for sampler in samplers] == [True, True, False, False]
    parts = ConcatDataset([data, data])
    both = (MultiSourceSampler(parts, 2, [1, 1]), GroupMultiSourceSampler)
    assert is_infinite(DataLoader(parts, sampler=both[0])) and both[1].infinite


def test_weights_alone_leave_nothing_of_the_run_that_they_come_from(tmp_path):
    first = train(toy_config(tmp_path / 'a', train_cfg__max_epochs=1))
    path = tmp_path / 'a' / 'epoch_1.pth'
    state = first.model.state_dict()
    save_checkpoint(dict(read_checkpoint(path), gradients=state, buffers_of_ranks=[[state]]), path)
    runner = build(toy_config(tmp_path / 'b', load_from=str(path)))
    runner.load_or_resume()
    runner.resume_state.write_to(saved := {}, runner, with_gradients=False)
    assert saved == {} and not runner.resume_state.gradients


def test_resuming_reads_no_sample_again(tmp_path):
    log = tmp_path / 'log.txt'
    changes = dict(
        train_cfg=ITERATIONS,
        train_dataloader__sampler=INFINITE,
        train_dataloader__dataset__log=str(log),
        default_hooks__checkpoint=EVERY_3,
    )
    train(toy_config(tmp_path, **changes), CutOffHook(iteration=24))
    log.unlink()
    train(toy_config(tmp_path, **changes), resume=True)
    assert len(log.read_text().split()) == 6 * 4


def test_moved_work_dir_resumes(tmp_path):
    whole = train(toy_config(tmp_path / 'whole'))
    train(toy_config(tmp_path / 'a folder'), CutOffHook(iteration=20))
    (tmp_path / 'a folder').rename(tmp_path / 'moved')
    assert (tmp_path / 'moved' / 'last_checkpoint').read_text() == 'epoch_2.pth'
    assert fingerprint(train(toy_config(tmp_path / 'moved'), resume=True)) == fingerprint(whole)
    assert len(list((tmp_path / 'moved').glob('best_*'))) == 1


def test_resume_walks_back_to_the_newest_readable_checkpoint(tmp_path, caplog):
    from mmdet.utils.resumable import newest_readable

    whole = train(toy_config(tmp_path / 'whole'))
    train(toy_config(tmp_path / 'cut'), CutOffHook(iteration=20))
    good = (tmp_path / 'cut' / 'epoch_2.pth').read_bytes()
    (tmp_path / 'cut' / 'epoch_2.pth').write_bytes(good[: len(good) // 2])
    (tmp_path / 'cut' / 'epoch_9.pth').write_bytes(b'')
    path, _, notes = newest_readable(tmp_path / 'cut')
    assert path.name == 'epoch_1.pth'
    assert [note.split()[0] for note in notes] == ['epoch_2.pth']
    assert fingerprint(train(toy_config(tmp_path / 'cut'), resume=True)) == fingerprint(whole)


def test_nothing_to_resume_starts_anew(tmp_path):
    runner = train(toy_config(tmp_path, train_cfg__max_epochs=1), resume=True)
    assert runner.epoch == 1


def test_stock_runner_resumes_what_we_save(tmp_path):
    import torch
    from mmengine.runner import Runner
    from mmengine.runner.checkpoint import CheckpointLoader

    train(toy_config(tmp_path), CutOffHook(iteration=20))
    cfg = toy_config(tmp_path)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'epoch_2.pth')
    schemes = dict(CheckpointLoader._schemes)
    try:
        CheckpointLoader._schemes[''] = lambda f, map_location=None: torch.load(f, map_location, weights_only=True)
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert (runner.epoch, runner.iter) == (3, 24)
    finally:
        CheckpointLoader._schemes = schemes


def _child(folder, changes, result):
    runner = train(toy_config(folder, **changes), resume=True)
    with open(f'{result}.part', 'w') as file:
        json.dump(fingerprint(runner), file)
    os.replace(f'{result}.part', result)


def _fork(*arguments):
    process = multiprocessing.get_context('fork').Process(target=_child, args=arguments)
    process.start()
    return process


def _kill_twenty_times(tmp_path):
    changes = dict(
        default_hooks__checkpoint=dict(EVERY_3, interval=1, max_keep_ckpts=1),
        custom_hooks=[EMA],
        train_cfg__max_epochs=4,
        train_cfg__val_interval=2,
    )
    build(toy_config(tmp_path / 'warm', **changes))  # imports once what every child needs
    result = tmp_path / 'whole.json'
    start = time.monotonic()
    _fork(tmp_path / 'whole', changes, result).join()
    duration = time.monotonic() - start
    whole = json.loads(result.read_text())
    draw, killed, run = random.Random(0), 0, 0
    while killed < 20:
        folder, result = tmp_path / f'run_{run}', tmp_path / f'{run}.json'
        run += 1
        while not result.exists():
            saved = len(list(folder.glob('*.pth')))
            process = _fork(folder, changes, result)
            if killed < 20:
                process.join(timeout=draw.uniform(0.2, 0.9) * duration)
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
            process.join()
            assert len(list(folder.glob('*.pth'))) >= min(saved, 1), 'a kill lost the last checkpoint'
        assert json.loads(result.read_text()) == whole


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_at_twenty_random_moments(tmp_path):
    """SIGKILL at any moment, inside saves too, loses nothing."""
    # in a process of its own without threads: a fork copies the locks that other threads hold
    process = multiprocessing.get_context('spawn').Process(target=_kill_twenty_times, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
