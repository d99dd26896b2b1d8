"""Whatever befalls a run at any call by which it changes its folder: resumed, it ends as the run that nothing befell.

A sample of the calls is tried in every run, all with ``-m slow``; ``python tests/engine/test_io_points.py`` tries all
and prints figures.
"""

import argparse
import collections
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
import torch
from io_points import FAULTS, Shim, logged
from toy_runs import build, fingerprint, free_port, join_ranks, toy_config

from mmdet.errors import UserError
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.run_folder import LOCK_FILE

SENTENCE, TRACEBACK = 3, 4  # exit codes: as a tool ends, and as none may
SHARED = ('optimizer', 'schedulers')  # what all ranks have alike
GRACE = 5  # seconds after the end of one rank when a launcher ends the others, which may wait to meet it
BEST = dict(interval=1, max_keep_ckpts=1, save_best='mAP', rule='less')  # each epoch is the best so far
KINDS = {
    'epochs': dict(default_hooks__checkpoint=dict(BEST, type='CheckpointHook')),
    'iterations': dict(
        default_hooks__checkpoint=dict(BEST, type='CheckpointHook', interval=3, by_epoch=False),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=8, val_interval=4),
    ),
}


def _train(rank, ranks, port, folder, kind, number, fault, result, victim):
    """One rank of a run; ``fault`` befalls the call ``number`` of rank ``victim``."""
    if ranks > 1:
        join_ranks(rank, ranks, port)
    shim = Shim(folder, number if rank == victim else None, fault)
    try:
        shim.install()
        changes = dict(train_cfg__max_epochs=2, train_dataloader__dataset__length=16)
        cfg = toy_config(folder, **{**changes, **KINDS[kind]})
        cfg.resume, cfg.launcher = True, 'pytorch' if ranks > 1 else 'none'
        runner = build(cfg)
        runner.train()
        prints = dict(fingerprint(runner), points=shim.points if fault is None else None)
    except (UserError, OSError):
        os._exit(SENTENCE)
    except BaseException as error:
        if 'peer' in str(error) or 'distributed' in repr(error).lower():  # another rank has ended before training
            os._exit(SENTENCE)
        traceback.print_exc()
        os._exit(TRACEBACK)
    Path(f'{result}_{rank}.json').write_text(json.dumps(prints))
    os._exit(0)


def run(folder, kind, ranks, number=None, fault=None, victim=0):
    """Exit codes and, of a run that ended well, what each rank was in the end."""
    with tempfile.TemporaryDirectory() as results:
        context, port = multiprocessing.get_context('fork'), free_port()
        processes = [
            context.Process(
                target=_train,
                args=(
                    rank,
                    ranks,
                    port,
                    folder,
                    kind,
                    number,
                    fault,
                    f'{results}/end',
                    victim,
                ),
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + 60
        while any(process.is_alive() for process in processes) and time.monotonic() < end:
            if any(process.exitcode for process in processes) and victim is not None:
                end, victim = time.monotonic() + GRACE, None
            time.sleep(0.005)
        for process in processes:
            if victim is None and process.is_alive():
                process.kill()
                process.join()
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        files = [Path(f'{results}/end_{rank}.json') for rank in range(ranks)]
        return codes, [json.loads(file.read_text()) for file in files if file.exists()]


def outcome(folder, prints):
    """All that two runs are compared by. The file of a lock that could not be removed locks nothing."""
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.name != LOCK_FILE)
    weights = {name: weights_of(Path(folder) / name) for name in names if name.endswith('.pth')}
    # the histories of other ranks are their own, and are not saved
    own = [
        {key: value for key, value in each.items() if key in SHARED or (not i and key != 'points')}
        for i, each in enumerate(prints)
    ]
    return dict(names=names, weights=weights, ranks=own, logged=logged(folder))


def weights_of(path):
    return {name: value.flatten().tolist() for name, value in read_checkpoint(path)['state_dict'].items()}


def whole_run(folder, kind, ranks):
    with tempfile.TemporaryDirectory() as warm:
        build(toy_config(warm)).train()  # imports what every process needs
    codes, prints = run(folder, kind, ranks, fault=None)
    assert codes == [0] * ranks
    return outcome(folder, prints), [each['points'] for each in prints]


def verdict(folder, whole, kind, ranks, number, fault, victim=0):
    """How a run ended that something befell, once it has been resumed and found equal to the whole one."""
    codes, prints = run(folder, kind, ranks, number, fault, victim)
    assert None not in codes, 'it hangs'
    assert TRACEBACK not in codes, 'an error without a sentence'
    if codes == [0] * ranks:
        ended = 'went on'
    else:
        assert codes[victim] == (-9 if fault in ('kill', 'power') else SENTENCE), codes
        ended = 'killed' if codes[victim] == -9 else 'stopped with a sentence'
        codes, prints = run(folder, kind, ranks)
        assert codes == [0] * ranks, 'it was not resumed'
    found = outcome(folder, prints)
    for key, value in whole.items():
        if key != 'logged' or fault != 'power':  # logs are not flushed to the disk
            assert found[key] == value, key
    return ended


def cases(points):
    return [(number, fault) for number, (call, _) in enumerate(points) for fault in FAULTS[call]]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The whole run of a kind on so many ranks, and its calls; made once."""
    made = {}

    def make(kind, ranks):
        if (kind, ranks) not in made:
            made[kind, ranks] = whole_run(tmp_path_factory.mktemp('whole') / 'run', kind, ranks)
        return made[kind, ranks]

    return make


def test_every_kind_of_call_is_seen(whole):
    _, ((*points,),) = whole('epochs', 1)
    assert {call for call, _ in points} == set(FAULTS)
    files = {name.lstrip('.').partition('.pth')[0] for _, name in points if '.pth' in name}
    assert files == {'epoch_1', 'epoch_2', 'best_mAP_epoch_1', 'best_mAP_epoch_2'}


@pytest.mark.parametrize('part', range(9))
def test_a_sample_of_the_calls(part, whole, tmp_path):
    expected, (points,) = whole('epochs', 1)
    number, fault = (every := cases(points))[(len(every) // 9) * part + 7 * part % 13]
    verdict(tmp_path / 'run', expected, 'epochs', 1, number, fault)


def test_a_save_of_the_best_that_nothing_points_to(whole, tmp_path):
    """The resumed run makes it again, so that it is surplus in the end."""
    expected, (points,) = whole('iterations', 1)
    saved = next(i for i, (call, name) in enumerate(points) if call == 'replace' and name.startswith('.iter_4.pth'))
    number = next(i for i, (call, name) in enumerate(points) if i > saved and name.startswith('.last_checkpoint'))
    assert verdict(tmp_path / 'run', expected, 'iterations', 1, number, 'kill') == 'killed'


def test_a_save_on_two_ranks(whole, tmp_path):
    expected, points = whole('epochs', 2)
    number = next(i for i, (call, name) in enumerate(points[0]) if call == 'replace' and name.startswith('.epoch_2'))
    assert verdict(tmp_path / 'run', expected, 'epochs', 2, number, 'ENOSPC') == 'stopped with a sentence'


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('ranks', [1, 2])
@pytest.mark.parametrize('kind', KINDS)
def test_all_calls(kind, ranks, whole, tmp_path):
    expected, points = whole(kind, ranks)
    failed = {}
    for victim in range(ranks):
        for number, fault in cases(points[victim]):
            folder = tmp_path / f'{victim}_{number}_{fault}'
            try:
                verdict(folder, expected, kind, ranks, number, fault, victim)
            except AssertionError as error:
                failed[victim, number, fault, points[victim][number]] = str(error).split('\n')[0]
    assert not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kinds', nargs='*', help=f'of {", ".join(KINDS)}; all by default')
    parser.add_argument('--ranks', type=int, nargs='*', default=[1, 2])
    parser.add_argument('--every', type=int, default=1, help='try each nth case')
    args = parser.parse_args()
    torch.set_num_threads(1)
    counts = collections.Counter()
    for kind, ranks in itertools.product(args.kinds or KINDS, args.ranks):
        with tempfile.TemporaryDirectory() as folder:
            expected, points = whole_run(f'{folder}/whole', kind, ranks)
            tried = [(victim, *case) for victim in range(ranks) for case in cases(points[victim])]
            for victim, number, fault in tried[:: args.every]:
                place = f'{folder}/{victim}_{number}_{fault}'
                try:
                    ended = verdict(place, expected, kind, ranks, number, fault, victim)
                except AssertionError as error:
                    ended = 'FAILED'
                    call = ' '.join(points[victim][number])
                    print(f'{kind} {ranks} rank {victim} call {number} {call}, {fault}: {str(error)[:300]}')
                counts[kind, ranks, ended] += 1
        print(
            {' '.join(map(str, key)): count for key, count in counts.items() if key[:2] == (kind, ranks)},
            flush=True,
        )
    return int(any(ended == 'FAILED' for *_, ended in counts))


if __name__ == '__main__':
    sys.exit(main())
