"""Two processes on the CPU, through gloo and the shell scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_resume import EMA, EVERY_3, CutOff, CutOffHook
from toy_runs import build, fingerprint, join_ranks, run_ranks, toy_config

from mmdet.utils.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def _rank(rank, ranks, port, folder, changes, cut, resume, result):
    join_ranks(rank, ranks, port)
    import torch.distributed as dist

    cfg = toy_config(folder, **changes)
    cfg.launcher, cfg.resume = 'pytorch', resume
    runner = build(cfg)
    if cut is not None:
        runner.register_hook(CutOffHook(iteration=cut))
    try:
        runner.train()
    except CutOff:
        os._exit(0)
    prints = fingerprint(runner)
    Path(f'{result}_{rank}.json').write_text(json.dumps(prints))
    dist.destroy_process_group()


def train_ranks(folder, result, changes, cut=None, resume=False, ranks=2):
    """The fingerprint of each rank of a run, None for a rank that was cut off."""
    run_ranks(_rank, folder, changes, cut, resume, result, ranks=ranks)
    prints = [Path(f'{result}_{rank}.json') for rank in range(ranks)]
    return [json.loads(path.read_text()) if path.exists() else None for path in prints]


@pytest.mark.parametrize('changes', [dict(default_hooks__checkpoint=EVERY_3, custom_hooks=[EMA])], ids=['ema'])
def test_both_ranks_agree_and_resume_exactly(changes, tmp_path):
    changes = dict(changes, model__dropout=0.5)
    # losses in the log are each rank's own; batch norm statistics are too
    whole = train_ranks(tmp_path / 'whole', tmp_path / 'whole', changes)
    train_ranks(tmp_path / 'cut', tmp_path / 'cut', changes, cut=7)
    resumed = train_ranks(tmp_path / 'cut', tmp_path / 'cut', changes, resume=True)
    assert whole[0]['optimizer'] == whole[1]['optimizer']
    assert resumed[0] == whole[0]
    assert resumed[1]['optimizer'] == whole[1]['optimizer']


def test_two_ranks_then_one_then_two_see_every_sample_of_each_epoch(tmp_path):
    def saved():
        progress = read_checkpoint(tmp_path / (tmp_path / 'last_checkpoint').read_text())['meta']['progress']
        return [progress[key] for key in ('world_size', 'passes', 'batch', 'samples')]

    changes = dict(default_hooks__checkpoint=EVERY_3)
    train_ranks(tmp_path, tmp_path / 'a', changes, cut=7)
    assert saved() == [2, 1, 2, 48]
    train_ranks(tmp_path, tmp_path / 'b', changes, cut=16, resume=True, ranks=1)
    assert saved() == [1, 1, 7, 60]
    prints = train_ranks(tmp_path, tmp_path / 'c', changes, resume=True)
    assert saved() == [2, 2, 4, 3 * 32 + 4]  # 28 samples of the epoch are no whole number of batches of 8
    assert prints[0]['optimizer'] == prints[1]['optimizer']


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_dist_train_script_in_a_path_with_spaces(tmp_path):
    """``tools/dist_train.sh CONFIG 2`` without a GPU gives both ranks the same weights."""
    folder = tmp_path / 'a path with spaces'
    folder.mkdir()
    link = folder / 'check out'
    link.symlink_to(ROOT)
    env = dict(os.environ, PYTHON=sys.executable, PYTHONPATH=f'{link}/tests/engine', MMDET_TOY_OUT=str(folder))
    env.pop('RANK', None)
    command = [f'{link}/tools/dist_train.sh', f'{link}/tests/engine/toy_config.py', '2', '--work-dir', f'{folder}/out']
    done = subprocess.run(
        [*command, '--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.weights.type=ToyWeightsHook'],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    weights = [(folder / f'weights_{rank}.txt').read_text() for rank in range(2)]
    assert weights[0] == weights[1] and len(weights[0]) > 20
    assert 'FutureWarning' not in done.stderr
    assert (folder / 'out' / 'last_checkpoint').read_text() == 'epoch_1.pth'
