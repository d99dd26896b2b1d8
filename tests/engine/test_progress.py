"""A run that is resumed with other settings goes on where its samples say, and says so in one line."""

import logging
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from test_distributed import train_ranks
from test_resume import EVERY_3, INFINITE, ITERATIONS, CutOffHook, train
from toy_runs import toy_config

from mmdet.engine.runner.progress import Pace, find_place
from mmdet.errors import UserValueError
from mmdet.registry import DATA_SAMPLERS, HOOKS
from mmdet.utils.checkpoint import read_checkpoint, save_checkpoint

START = dict(default_hooks__checkpoint=EVERY_3)  # of 3 epochs with 8 iterations of 4 of 32 samples
FINITE = dict(START, train_cfg=ITERATIONS)
ENDLESS = dict(FINITE, train_dataloader__sampler=INFINITE)
BATCH, LENGTH, WORKERS = (
    'train_dataloader__batch_size',
    'train_dataloader__dataset__length',
    'train_dataloader__num_workers',
)


class SaidHandler(logging.Handler):
    """Keeps what is said about resuming in a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def emit(self, record):
        text = record.getMessage()
        if any(words in text for words in ('Resumed with', 'The checkpoint does not say', 'Nothing is left')):
            with self.path.open('a') as file:
                file.write(f'{text}\n')


@HOOKS.register_module(force=True)
class RouteHook(Hook):
    """Notes where training begins, each iteration with its learning rate, and on rank 0 what is said."""

    def before_run(self, runner):
        if runner.rank == 0:
            self.handler = SaidHandler(Path(runner.work_dir) / 'said.txt')
            runner.logger.setLevel(logging.WARNING)
            runner.logger.addHandler(self.handler)

    def before_train(self, runner):
        loop = runner.train_loop
        self.place = (loop._passes, loop._batch, loop._iter)
        self.rates = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        loop = runner.train_loop
        assert 0 <= loop._batch < len(runner.train_dataloader) or runner.train_loop.pace().endless
        self.rates[runner.iter] = runner.optim_wrapper.get_lr()['lr'][0]


def samples_of(runner):
    loop = runner.train_loop
    return loop.progress(loop._epoch, loop._iter)['samples']


ROUTE = [dict(type='RouteHook')]


def go(folder, cut=None, resume=False, **changes):
    """Train; returns the runner, what it notes, and what it says."""
    said = folder / 'said.txt'
    said.unlink(missing_ok=True)
    cfg = toy_config(folder, custom_hooks=ROUTE, **changes)
    runner = train(cfg, CutOffHook(iteration=cut) if cut else None, resume=resume)
    route = next(hook for hook in runner.hooks if isinstance(hook, RouteHook))
    return runner, route, said.read_text().splitlines() if said.exists() else []


# The run is killed after 14 iterations and has saved 12: one epoch, and 16 samples of the second.
CHANGES = {
    'larger batch': (START, {BATCH: 8}, (1, 2, 6), 'batch size 4 -> 8'),
    'smaller batch': (START, {BATCH: 2}, (1, 8, 24), 'batch size 4 -> 2'),
    'batch that divides nothing': (START, {BATCH: 5}, (1, 3, 10), 'batch size 4 -> 5'),
    'one batch an epoch': (START, {BATCH: 32}, (1, 0, 1), 'batch size 4 -> 32'),
    'workers': (START, {WORKERS: 1}, (1, 4, 12), 'workers 0 -> 1'),
    'longer data': (START, {LENGTH: 50}, (1, 4, 17), 'samples of the data set 32 -> 50'),
    'shorter data': (START, {LENGTH: 20}, (1, 4, 9), 'samples of the data set 32 -> 20'),
    'data shorter than what was seen': (START, {LENGTH: 11}, (1, 3, 6), 'samples of the data set 32 -> 11'),
    'accumulation': (START, dict(optim_wrapper__accumulative_counts=2), (1, 4, 12), 'accumulated iterations 1 -> 2'),
    'batch and data': (START, {BATCH: 6, LENGTH: 40}, (1, 2, 9), 'batch size 4 -> 6, samples of the data set 32 -> 40'),
    'epochs to iterations': (START, dict(train_cfg=ITERATIONS), (1, 4, 12), 'loop by epochs -> by iterations'),
    'epochs to an endless sampler': (START, ENDLESS, (0, 12, 12), 'sampler with an end -> without an end'),
    'iterations to epochs': (FINITE, START | dict(train_cfg__max_epochs=3), (1, 4, 12), 'by iterations -> by epochs'),
    'iterations, larger batch': (FINITE, {BATCH: 8}, (1, 2, 12), 'batch size 4 -> 8'),
    'iterations, shorter data': (FINITE, {LENGTH: 11}, (1, 3, 12), 'samples of the data set 32 -> 11'),
    'stream, larger batch': (ENDLESS, {BATCH: 8}, (0, 6, 12), 'batch size 4 -> 8'),
    'stream, longer data': (ENDLESS, {LENGTH: 50}, (0, 12, 12), 'samples of the data set 32 -> 50'),
}


@pytest.mark.parametrize('name', CHANGES)
def test_other_settings_go_on_by_samples(name, tmp_path):
    first, change, place, words = CHANGES[name]
    go(tmp_path, cut=13, **first)
    second = dict(first, **change)
    if name == 'iterations to epochs':
        second.pop('train_cfg')
    runner, route, lines = go(tmp_path, resume=True, **second)
    assert route.place == place
    assert len(lines) == 1 and words in lines[0], lines
    assert runner.iter == runner.max_iters > place[2] and list(route.rates) == list(range(place[2], runner.iter))
    assert samples_of(runner) > 48


def test_no_sample_of_the_epoch_is_lost_or_repeated(tmp_path):
    log = tmp_path / 'samples.txt'
    changes = dict(START, train_dataloader__dataset__log=str(log))
    go(tmp_path, cut=11, **changes)
    first = log.read_text().split()[32:48]
    log.unlink()
    runner, _, _ = go(tmp_path, resume=True, **{**changes, BATCH: 8})
    rest = log.read_text().split()[:16]
    assert sorted(map(int, first + rest)) == list(range(32))
    assert samples_of(runner) == 96


def test_schedules_stand_where_a_run_with_the_new_settings_would(tmp_path):
    schedules = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
        dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
        dict(type='MultiStepLR', by_epoch=True, begin=0, end=3, milestones=[1, 2], gamma=0.1),
    ]
    changes = dict(START, param_scheduler=schedules)
    _, whole, _ = go(tmp_path / 'whole', **{**changes, BATCH: 2})
    go(tmp_path / 'cut', cut=13, **changes)
    _, resumed, _ = go(tmp_path / 'cut', resume=True, **{**changes, BATCH: 2})
    assert min(resumed.rates) == 24
    assert resumed.rates == pytest.approx({i: rate for i, rate in whole.rates.items() if i >= 24})


def test_schedules_that_follow_validations_stay(tmp_path):
    plateau = [dict(type='ReduceOnPlateauLR', monitor='mAP', patience=9)]
    go(tmp_path, cut=13, **START, param_scheduler=plateau)
    _, route, lines = go(tmp_path, resume=True, **{**START, BATCH: 8}, param_scheduler=plateau)
    assert set(route.rates.values()) == {0.05}
    assert 'Schedules that follow the results of validations stay where they were.' in lines[0]


def test_a_resumed_change_resumes_exactly(tmp_path):
    """The second change of settings is none: the place of the first one holds, in a stream of passes too."""
    go(tmp_path, cut=13, **FINITE)
    go(tmp_path, cut=19, resume=True, **{**FINITE, BATCH: 8})
    _, route, lines = go(tmp_path, resume=True, **{**FINITE, BATCH: 8})
    assert lines == [] and route.place == (2, 4, 18)


@pytest.mark.parametrize(
    ('before', 'cut', 'after', 'words'),
    [
        (2, 6, 1, 'processes 2 -> 1: 16 samples of epoch 2 were seen, so it goes on after 4 of the 8'),
        (1, 13, 2, 'processes 1 -> 2: 16 samples of epoch 2 were seen, so it goes on after 2 of the 4'),
    ],
)
def test_other_number_of_processes(before, cut, after, words, tmp_path):
    """The run of two processes has saved 6 of 4 iterations an epoch, that of one 12 of 8."""
    changes = dict(START, custom_hooks=ROUTE)
    train_ranks(tmp_path / 'run', tmp_path / 'a', changes, cut=cut, ranks=before)
    prints = train_ranks(tmp_path / 'run', tmp_path / 'b', changes, resume=True, ranks=after)
    assert len({rank['optimizer'] for rank in prints}) == 1
    said = (tmp_path / 'run' / 'said.txt').read_text()
    assert said.count('\n') == 1 and words in said
    meta = read_checkpoint(tmp_path / 'run' / (tmp_path / 'run' / 'last_checkpoint').read_text())['meta']
    assert meta['progress']['samples'] == 96


def test_a_finished_run_says_so(tmp_path):
    for changes in (dict(train_cfg__max_epochs=1), dict(START), dict(FINITE)):
        go(tmp_path, **changes)
        _, route, lines = go(tmp_path, resume=True, **changes)
        assert len(lines) == 1 and 'Nothing is left to train' in lines[0] and not route.rates


# --------------------------------------------------------------------------------------------------------------------
PACE = Pace(True, 1, 4, 8, 32, 32, False, 0, 1)
BY_ITERATIONS = Pace(False, 1, 4, 8, 32, 32, False, 0, 1)
UNCHANGED = 'both are taken as unchanged'


@pytest.mark.parametrize(
    ('pace', 'epoch', 'iteration', 'info', 'place', 'words'),
    [
        (PACE, 1, 8, dict(max_epochs=3, max_iters=24), (1, 0, 8), UNCHANGED),
        (PACE, 1, 12, {}, (1, 4, 12), UNCHANGED),
        (PACE, 2, 32, dict(max_epochs=3, max_iters=48), (2, 0, 16), 'does not fit epochs of 8 iterations'),
        (PACE, 1, 24, dict(max_epochs=3, max_iters=48), (1, 4, 12), 'after 4 iterations of epoch 2'),
        (PACE, 2, 8, dict(max_epochs=3, max_iters=12), (2, 0, 16), 'does not fit'),
        (PACE, 2, 90, {}, (2, 0, 16), 'does not fit'),
        (PACE, 0, 20, dict(max_epochs=1, max_iters=90), (2, 4, 20), UNCHANGED),
        (PACE, 2, 90, dict(max_epochs='x', max_iters=None), (2, 0, 16), 'does not fit'),
        (BY_ITERATIONS, 0, 20, dict(max_epochs=1, max_iters=90), (2, 4, 20), UNCHANGED),
    ],
)
def test_checkpoints_that_do_not_know_their_batch(pace, epoch, iteration, info, place, words):
    found, note, _ = find_place(dict(epoch=epoch, iter=iteration), info, pace)
    assert (found.passes, found.batch, found.iteration) == place and words in note


@pytest.mark.parametrize(
    'stored',
    [3, {}, dict(by_epoch=True), 'negative', 'text', 'no samples', 'other epoch'],
    ids=str,
)
def test_a_place_that_makes_no_sense_is_not_believed(stored, tmp_path):
    good = dict(vars(PACE), passes=1, batch=4, samples_in_pass=16, samples=48)
    bad = {
        'negative': dict(good, batch=-5),
        'text': dict(good, world_size='2'),
        'no samples': dict(good, batch_size=0),
        'other epoch': dict(good, passes=9),
    }
    meta = dict(epoch=1, iter=12, progress=bad.get(str(stored), stored))
    place, note, _ = find_place(meta, {}, PACE)
    assert (place.passes, place.batch, place.iteration) == (1, 4, 12) and UNCHANGED in note
    assert find_place(dict(meta, progress=good), {}, PACE)[1] == ''


def test_a_checkpoint_of_3x_with_another_batch_trains_on(tmp_path):
    go(tmp_path, cut=17)
    path = tmp_path / 'epoch_2.pth'
    checkpoint = read_checkpoint(path)
    for key in ('progress', 'mmdet_version'):
        checkpoint['meta'].pop(key)
    save_checkpoint(checkpoint, path)
    _, route, lines = go(tmp_path, resume=True, **{BATCH: 2})
    assert route.place == (2, 0, 32) and len(route.rates) == 16
    assert len(lines) == 1 and 'does not say with which batch size' in lines[0]


# --------------------------------------------------------------------------------------------------------------------
@DATA_SAMPLERS.register_module(force=True)
class NothingSampler:
    """Promises batches and gives none."""

    def __init__(self, sampler, batch_size, drop_last=False):
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 5


@pytest.mark.parametrize('loop', [{}, dict(train_cfg=ITERATIONS)], ids=['epochs', 'iterations'])
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({BATCH: 16, LENGTH: 8, 'train_dataloader__drop_last': True}, '8 samples do not fill one of batch_size=16'),
        ({LENGTH: 0, 'train_dataloader__sampler': dict(type='DefaultSampler', shuffle=False)}, 'data set is empty'),
        ({LENGTH: 0, 'train_dataloader__sampler': INFINITE}, 'data set is empty'),
        ({'train_dataloader__batch_sampler': dict(type='NothingSampler')}, 'gave no batch'),
    ],
)
def test_an_epoch_without_iterations_is_an_error(loop, changes, words, tmp_path):
    with pytest.raises(UserValueError, match=words):
        go(tmp_path, **loop, **changes)
    assert not list(tmp_path.glob('*.pth'))


def test_an_endless_sampler_fills_batches_larger_than_the_data(tmp_path):
    runner, _, _ = go(tmp_path, **ENDLESS, **{BATCH: 16, LENGTH: 8, 'train_dataloader__drop_last': True})
    assert runner.iter == 30
    _, _, lines = go(tmp_path, resume=True, **ENDLESS, **{BATCH: 8, LENGTH: 8, 'train_dataloader__drop_last': True})
    assert 'batch size 16 -> 8' in lines[0] and '60 batches of the stream' in lines[0]
