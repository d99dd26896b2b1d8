"""``tools/dist_train.sh`` told to end, in each of the ways a machine has for that."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdet.utils.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != 'linux', reason='finds processes in /proc')]


def processes_of(folder):
    """Ids of all processes of a run, however they came about: each has its folder in its environment."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                if f'MMDET_TOY_OUT={folder}'.encode() in (entry / 'environ').read_bytes().split(b'\0'):
                    state = (entry / 'stat').read_text().rpartition(')')[2].split()[0]
                    found += [int(entry.name)] if state not in 'ZX' else []
            except OSError:
                continue
    return found


def wait_until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def run(tmp_path):
    """Starts a run of two ranks with two workers each, and ends what is left of it."""

    def start(*options, script=(ROOT / 'tools/dist_train.sh',), ranks=('2',), arguments=()):
        environment = dict(os.environ, PYTHON=sys.executable, MMDET_TOY_OUT=str(tmp_path))
        environment['PYTHONPATH'] = f'{ROOT / "tests" / "engine"}:{ROOT}'
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
            environment.pop(name, None)
        settings = ['train_cfg.val_interval=100000', 'default_hooks.trace.type=ToyTraceHook', *options]
        command = [*script, ROOT / 'tests/engine/toy_config.py', *ranks, '--work-dir', tmp_path / 'out']
        command += [*arguments, '--cfg-options', *settings]
        log = (tmp_path / 'log').open('a')
        return subprocess.Popen([str(part) for part in command], env=environment, stdout=log, stderr=log, cwd=tmp_path)

    yield start
    for process in processes_of(tmp_path):
        os.kill(process, signal.SIGKILL)


def iterations(folder, rank):
    """Iterations that a rank has done, by each of its starts."""
    path = folder / f'trace_{rank}.txt'
    starts = path.read_text().split('start ')[1:] if path.exists() else []
    return [[int(line) for line in text.splitlines()[1:]] for text in starts]


ENDLESS = (
    'train_cfg.max_epochs=1000000',
    'default_hooks.checkpoint.interval=1000000',
    'train_dataloader.num_workers=2',
    'train_dataloader.persistent_workers=True',
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signals_reach_the_ranks_which_save(number, code, run, tmp_path):
    process = run(*ENDLESS)
    wait_until(lambda: all(iterations(tmp_path, rank) and iterations(tmp_path, rank)[0] for rank in range(2)))
    process.send_signal(number)
    assert process.wait(60) == code, (tmp_path / 'log').read_text()[-3000:]
    last = (tmp_path / 'out' / 'last_checkpoint').read_text()
    assert [iterations(tmp_path, rank)[0][-1] for rank in range(2)] == [int(last[5:-4])] * 2
    wait_until(lambda: not processes_of(tmp_path), 10)


@pytest.mark.timeout(180)
def test_nothing_outlives_a_killed_launcher(run, tmp_path):
    process = run(*ENDLESS)
    wait_until(lambda: all(iterations(tmp_path, rank) and iterations(tmp_path, rank)[0] for rank in range(2)))
    assert len(processes_of(tmp_path)) >= 1 + 2 + 4
    process.kill()
    process.wait()
    wait_until(lambda: not processes_of(tmp_path), 30)
    assert (tmp_path / 'out' / 'last_checkpoint').read_text() == f'iter_{iterations(tmp_path, 0)[0][-1]}.pth'


@pytest.mark.timeout(180)
def test_workers_end_with_a_killed_rank(run, tmp_path):
    process = run(*ENDLESS)
    wait_until(lambda: all(iterations(tmp_path, rank) and iterations(tmp_path, rank)[0] for rank in range(2)))
    os.kill(int((tmp_path / 'process_1.txt').read_text()), signal.SIGKILL)
    assert process.wait(60) == 137
    wait_until(lambda: not processes_of(tmp_path), 10)
    text = (tmp_path / 'log').read_text()
    assert 'when it lost another rank' in text and 'Saved iter_' in text


@pytest.mark.timeout(240)
def test_ranks_that_torchrun_starts_again_go_on(run, tmp_path):
    """Rank 1 ends in the second epoch, once: the second start goes on after the first epoch or later."""
    options = ('train_cfg.max_epochs=3', 'default_hooks.crash.type=ToyCrashHook')
    script = [sys.executable, ROOT / 'tools/launch.py', '--standalone', '--nproc_per_node=2', '--max-restarts=1']
    script.append(ROOT / 'tools/train.py')
    process = run(*options, script=script, ranks=(), arguments=('--launcher', 'pytorch'))
    assert process.wait(150) == 0, (tmp_path / 'log').read_text()[-3000:]
    first, second = iterations(tmp_path, 0)
    assert first[-1] >= 4 and second[0] == first[-1] + 1 and second[-1] == 12
    assert 'started the ranks again' in (tmp_path / 'log').read_text()


@pytest.mark.timeout(300)
def test_the_number_of_ranks_changes_while_it_trains(run, tmp_path):
    """Two agents of torchrun with one rank each; one ends, and comes again: 2 -> 1 -> 2 ranks."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    script = [sys.executable, ROOT / 'tools/launch.py', '--nnodes=1:2', '--nproc_per_node=1', '--max-restarts=9']
    script += ['--rdzv-backend=c10d', f'--rdzv-endpoint=127.0.0.1:{port}', '--rdzv-id=toy', '--monitor-interval=0.2']
    script += ['--rdzv-conf=last_call_timeout=12,join_timeout=100', ROOT / 'tools/train.py']
    options = ['train_cfg.max_epochs=120', 'train_dataloader.dataset.length=64']
    options += ['default_hooks.checkpoint.interval=1000', 'default_hooks.slow.type=ToySlowHook']

    def agent():
        return run(*options, script=script, ranks=(), arguments=('--launcher', 'pytorch', '--resume'))

    def worlds():
        return [world for world, count in starts(tmp_path, 0) if count > 3]

    def answers():
        with socket.socket() as one:
            return one.connect_ex(('127.0.0.1', port)) == 0

    first = agent()
    wait_until(answers)  # the first agent holds what they agree on
    second = agent()
    wait_until(lambda: worlds() == [2])
    second.terminate()
    assert second.wait(60) == 143
    wait_until(lambda: worlds() == [2, 1])
    second = agent()
    wait_until(lambda: worlds() == [2, 1, 2])
    assert first.wait(120) == 0 and second.wait(20) == 0, (tmp_path / 'log').read_text()[-3000:]
    progress = read_checkpoint(tmp_path / 'out' / 'epoch_120.pth')['meta']['progress']
    assert progress['world_size'] == 2 and 0 <= progress['samples'] - 120 * 64 < 8  # part of a batch came twice
    log = (tmp_path / 'log').read_text()
    assert log.count('Resumed with') >= 2


def starts(folder, rank):
    """The number of ranks of each start and how many iterations it did."""
    path = folder / f'trace_{rank}.txt'
    texts = path.read_text().split('start ')[1:] if path.exists() else []
    return [(int(text.split()[0]), len(text.split()) - 1) for text in texts]
