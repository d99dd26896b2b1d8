"""Whose a folder is: locks, ids, and what may be deleted."""

import json
import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch

from mmdet.utils import run_folder
from mmdet.utils.checkpoint import label_of, save_checkpoint
from mmdet.utils.run_folder import (
    FolderInUseError,
    FolderLock,
    RunRecord,
    is_own,
    new_run_id,
    read_record,
    remove_partial_files,
    write_record,
)

RUN, OTHER = '0123456789abcdef', 'fedcba9876543210'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run_folder, 'PATIENCE', 0.3)
    monkeypatch.setattr(run_folder, 'SILENCE', 1.0)
    monkeypatch.setattr(run_folder, 'BEAT', 0.1)
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)


def _hold(folder, ready, fork):
    FolderLock(folder).acquire(RUN)
    if fork and os.fork() == 0:  # a worker that outlives its run
        time.sleep(3)
        os._exit(0)
    ready.set()
    time.sleep(60)


@pytest.fixture
def holder(tmp_path, request):
    """Another process that has the folder."""
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, getattr(request, 'param', False)))
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_one_run_at_a_time(holder, tmp_path):
    with pytest.raises(FolderInUseError, match=rf'in use by another run \(process {holder.pid} on .*--work-dir'):
        FolderLock(tmp_path).acquire()
    link = tmp_path.parent / f'{tmp_path.name} link'
    link.symlink_to(tmp_path)
    with pytest.raises(FolderInUseError):
        FolderLock(link).acquire()


@pytest.mark.parametrize('holder', [False, True], ids=['alone', 'with a worker that lives on'], indirect=True)
def test_a_killed_run_leaves_the_folder_at_once(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    lock = FolderLock(tmp_path)
    lock.acquire(OTHER)
    assert json.loads((tmp_path / '.run.lock').read_text())['run_id'] == OTHER
    with pytest.raises(FolderInUseError, match='another run of this process'):
        FolderLock(tmp_path).acquire()
    lock.release()
    lock.release()
    assert os.listdir(tmp_path) == []


def stranger(tmp_path, **changes):
    """A lock file as another machine has written it."""
    owner = dict(host='elsewhere', boot='other', space='x', pid=1, start='1', job=None, token='t', since='today')
    (tmp_path / '.run.lock').write_text(json.dumps(owner | changes))


def test_another_machine_that_gives_signs_of_life_has_the_folder(tmp_path):
    stranger(tmp_path)
    end = threading.Event()

    def beat():
        while not end.wait(0.2):
            os.utime(tmp_path / '.run.lock')

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(FolderInUseError, match='process 1 on elsewhere, since today'):
            FolderLock(tmp_path).acquire()
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize('content', [None, '', '{', '[]', 'x' * 9000, '{"host": 3, "pid": "a"}'], ids=str)
def test_a_silent_or_senseless_owner_is_dead(content, tmp_path):
    stranger(tmp_path)
    if content is not None:
        (tmp_path / '.run.lock').write_text(content)
    start = time.monotonic()
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert time.monotonic() - start < 5
    time.sleep(0.3)
    assert time.time() - (tmp_path / '.run.lock').stat().st_mtime < 5  # it gives signs of life itself
    lock.release()


def test_a_run_of_torchrun_takes_over_from_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, 'SILENCE', 600.0)
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'job-7')
    stranger(tmp_path, job='job-7')
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()


def test_without_locks_of_the_kernel_the_process_table_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, '_lock', lambda handle: None)
    me = run_folder._myself()
    (tmp_path / '.run.lock').write_text(json.dumps(me))
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path).acquire()
    (tmp_path / '.run.lock').write_text(json.dumps(me | dict(start='another process of this number')))
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_run_that_lost_its_folder_notices(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.require()
    (tmp_path / '.run.lock').unlink()
    lock.require()  # nobody else is there
    stranger(tmp_path)
    with pytest.raises(FolderInUseError, match='elsewhere'):
        lock.require()
    lock.release()
    assert (tmp_path / '.run.lock').exists()  # it is the other one's


# --------------------------------------------------------------------------------------------------------------------
def test_only_own_checkpoints_directly_in_the_folder_are_own(tmp_path):
    weights = dict(state_dict=dict(a=torch.ones(1)))
    outside, inside = tmp_path / 'epoch_1.pth', tmp_path / 'run'
    inside.mkdir()
    (inside / 'sub').mkdir()
    for path, run_id in (
        (outside, RUN),
        (inside / 'epoch_1.pth', RUN),
        (inside / 'sub' / 'epoch_1.pth', RUN),
        (inside / 'epoch_2.pth', OTHER),
        (inside / 'epoch_3.pth', None),
    ):
        save_checkpoint(weights, path, label=dict(run_id=run_id) if run_id else None)
    (inside / 'epoch_4.pth').symlink_to(outside)
    (inside / 'epoch_5.pth').symlink_to('epoch_5.pth')
    (inside / 'epoch_6.pth').mkdir()
    (inside / 'epoch_7.pth').write_bytes((inside / 'epoch_1.pth').read_bytes()[:-200])
    names = [f'epoch_{i}.pth' for i in range(9)]
    names += ['../epoch_1.pth', 'sub/epoch_1.pth', str(outside), '', '.', '..', 'x' * 5000, '\0']
    assert [name for name in names if is_own(inside, name, RUN)] == ['epoch_1.pth']
    assert not is_own(inside, 'epoch_3.pth', None)


def test_labels(tmp_path):
    path = tmp_path / 'a.pth'
    save_checkpoint(dict(state_dict=dict(a=torch.ones(3))), path, label=dict(run_id=RUN, iter=3))
    assert label_of(path) == dict(run_id=RUN, iter=3)
    assert torch.load(path, weights_only=True)['state_dict']['a'].sum() == 3
    assert torch.load(path, weights_only=True, mmap=True)['state_dict']['a'].sum() == 3
    torch.save({}, path)
    assert label_of(path) == {} and label_of(tmp_path) == {} and label_of(tmp_path / 'none') == {}


def test_records(tmp_path):
    assert read_record(tmp_path) is None and new_run_id() != new_run_id()
    write_record(tmp_path, RunRecord(RUN, 'epoch_1.pth', True))
    assert read_record(tmp_path) == RunRecord(RUN, 'epoch_1.pth', True)
    for text in ('', '{', '[]', '3', '{}', '{"run_id": 3}', '{"run_id": "../x"}', '{"run_id": "' + 'a' * 40000):
        (tmp_path / 'run.json').write_text(text)
        assert read_record(tmp_path) is None
    (tmp_path / 'run.json').write_text(json.dumps(dict(run_id=RUN, source=[1], adopts='yes')))
    assert read_record(tmp_path) == RunRecord(RUN)


def test_only_own_parts_are_removed(tmp_path):
    own = f'.epoch_1.pth.{RUN}.x_1.part'
    foreign = [f'.epoch_1.pth.{OTHER}.x_1.part', '.epoch_1.pth.abc.part', f'epoch.{RUN}.part', f'.a.{RUN}.x.party']
    for name in (own, *foreign):
        (tmp_path / name).write_text('')
    (tmp_path / f'.folder.{RUN}.x.part').mkdir()
    remove_partial_files(tmp_path, RUN)
    assert sorted(os.listdir(tmp_path)) == sorted([*foreign, f'.folder.{RUN}.x.part'])
