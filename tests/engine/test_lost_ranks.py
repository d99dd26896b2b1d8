"""Ranks that hang, end or run out of data: the others say so in time, and what can be saved is."""

import hashlib
import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from toy_runs import build, join_ranks, run_ranks, toy_config

from mmdet.errors import UserError
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.processes import LostRankError, start_process_group, timeout_of

LIMIT = 6.0
"""Seconds that a collective call may take."""


class Trouble(Hook):
    """What happens to rank 1 before its iteration 6."""

    def __init__(self, kind):
        self.kind = kind

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 5 and runner.rank == 1:
            (Path(runner.work_dir) / 'trouble.txt').write_text(str(time.time()))
            if self.kind == 'hang':
                time.sleep(3 * LIMIT)
            os._exit(7)


class Short:
    """Leaves out the last two batches of the second epoch."""

    def __init__(self, batches):
        self.batches, self.epochs = batches, 0

    def __getattr__(self, name):
        return getattr(self.batches, name)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        self.epochs += 1
        yield from list(self.batches)[: 2 if self.epochs == 2 else None]


def digest(model):
    sha = hashlib.sha256()
    for parameter in model.parameters():
        sha.update(parameter.detach().numpy().tobytes())
    return sha.hexdigest()


def _rank(rank, ranks, port, folder, kind, watched, resume=False):
    join_ranks(rank, ranks, port)
    cfg = toy_config(folder, env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=LIMIT)))
    cfg.launcher, cfg.resume, cfg.log_level = 'pytorch', resume, 'WARNING'
    if not watched:
        cfg.default_hooks.watchdog = None
    runner = build(cfg)
    if kind in ('hang', 'end'):
        runner.register_hook(Trouble(kind))
    if kind == 'run out' and rank == 1:
        object.__setattr__(runner.train_dataloader, 'batch_sampler', Short(runner.train_dataloader.batch_sampler))
    if kind == 'fewer' and rank == 1:
        runner._train_dataloader.batch_size = 8
    try:
        runner.train()
    except UserError as error:
        (Path(folder) / f'error_{rank}.txt').write_text(f'{time.time()} {type(error).__name__}: {error}')
        os._exit(1)
    (Path(folder) / f'weights_{rank}.txt').write_text(digest(runner.model))
    os._exit(0)


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    run_ranks(_rank, folder, None, True)
    return (folder / 'weights_0.txt').read_text()


def error_of(folder, rank):
    """When a rank said what."""
    moment, _, text = (folder / f'error_{rank}.txt').read_text().partition(' ')
    return float(moment), text


def require_resume(folder, expected):
    """What rank 0 saved by itself is the state of after iteration 5."""
    assert (folder / 'last_checkpoint').read_text() == 'iter_5.pth'
    assert read_checkpoint(folder / 'iter_5.pth')['meta']['iter'] == 5
    run_ranks(_rank, folder, None, True, True)
    assert [(folder / f'weights_{rank}.txt').read_text() for rank in range(2)] == [expected] * 2


@pytest.mark.parametrize('kind', ['end', pytest.param('hang', marks=pytest.mark.slow)])
def test_a_lost_rank_is_named_and_the_state_saved(kind, whole_run, tmp_path):
    """Without the watchdog the timeout of the process group itself ends the wait."""
    run_ranks(_rank, tmp_path, kind, False, codes=[1, 7])
    moment, message = error_of(tmp_path, 0)
    assert moment - float((tmp_path / 'trouble.txt').read_text()) < LIMIT + 3
    assert message.startswith(LostRankError.__name__)
    assert "Rank 0 has been in the phase 'training step: backward pass' of iteration 6" in message
    assert 'Saved iter_5.pth; --resume continues from it.' in message
    require_resume(tmp_path, whole_run)


@pytest.mark.slow
def test_the_watchdog_ends_a_hanging_rank_and_the_waiting_one_in_time(whole_run, tmp_path, capfd):
    run_ranks(_rank, tmp_path, 'hang', True, codes=[124, 124])
    assert time.time() - float((tmp_path / 'trouble.txt').read_text()) < LIMIT + 1
    said = capfd.readouterr()
    text = said.out + said.err
    limit = r'for [45]\.\d s; the limit is'
    assert re.search(rf"Rank 0 has been in the phase 'training step: backward pass' of iteration 6 {limit}", text)
    assert re.search(rf"Rank 1 has been in the phase 'loading data' of iteration 6 {limit}", text)
    assert 'Saved iter_5.pth' in text and 'time.sleep' not in text and 'in before_train_iter' in text
    require_resume(tmp_path, whole_run)


def test_a_rank_that_runs_out_of_data_says_so_at_once(tmp_path):
    run_ranks(_rank, tmp_path, 'run out', True, codes=[1, 1])
    (later, waiting), (moment, culprit) = error_of(tmp_path, 0), error_of(tmp_path, 1)
    assert 'Rank 1 ran out of data after iteration 6: the epoch 2 gave it 2 of 4 batches' in culprit
    assert 'Saved iter_6.pth' in waiting and later - moment < LIMIT


def test_epochs_of_different_lengths_are_refused_on_all_ranks(tmp_path):
    run_ranks(_rank, tmp_path, 'fewer', True, codes=[1, 1])
    for rank in range(2):
        assert 'the epochs of the ranks have 4, 2 batches' in error_of(tmp_path, rank)[1]


# --------------------------------------------------------------------------------------------------------------------
def _start(rank, ranks, port, launcher, dist_cfg, result):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        os.environ.pop(name, None)
    if launcher == 'pytorch':
        join_ranks(rank, ranks, port)
    else:
        own = dict(slurm='SLURM_PROCID SLURM_NTASKS SLURM_LOCALID').get(
            launcher, 'OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK'
        )
        os.environ.update(dict(zip(own.split(), map(str, (rank, ranks, rank)), strict=True)), MASTER_ADDR='127.0.0.1')
        os.environ['MASTER_PORT'] = str(port)
    start_process_group(launcher, dist_cfg)
    group = torch.distributed.distributed_c10d._get_default_group()
    seconds = group._get_backend(torch.device('cpu')).options._timeout.total_seconds()
    Path(result).write_text(f'{torch.distributed.get_backend()} {seconds:g} {timeout_of(dist_cfg):g}')
    os._exit(0)


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
@pytest.mark.parametrize(
    ('dist_cfg', 'expected'),
    [
        (dict(backend='nccl', timeout=15), 'gloo 15 15'),
        (dict(timeout=timedelta(seconds=2.5)), 'gloo 2.5 2.5'),
        (None, 'gloo 1800 1800'),
    ],
    ids=str,
)
@pytest.mark.skipif(torch.cuda.is_available(), reason='nccl is taken where there is a GPU')
def test_the_timeout_reaches_the_process_group(launcher, dist_cfg, expected, tmp_path):
    run_ranks(_start, launcher, dist_cfg, tmp_path / 'group', ranks=1)
    assert (tmp_path / 'group').read_text() == expected


@pytest.mark.parametrize(
    ('dist_cfg', 'message'),
    [
        (dict(timeout='15'), "timeout must be a number of seconds, not '15'"),
        (dict(timeout=0), 'must be a positive number of seconds, not 0'),
    ],
)
def test_mistaken_timeouts_are_named(dist_cfg, message):
    with pytest.raises(UserError, match=message):
        start_process_group('pytorch', dist_cfg)
    with pytest.raises(UserError, match="launcher must be one of pytorch, slurm, mpi, not 'torch'"):
        start_process_group('torch')
    with pytest.raises(UserError, match=r"SLURM_PROCID is not set, which the launcher 'slurm' sets"):
        start_process_group('slurm')
