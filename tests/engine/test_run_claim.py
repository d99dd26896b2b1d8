"""A run continues itself, deletes nothing that is not its own, and leaves nothing behind."""

import importlib
import multiprocessing
import os
import shutil
import time

import pytest
from mmengine.hooks import Hook
from test_distributed import train_ranks
from test_resume import EVERY_3, CutOffHook, train
from toy_runs import build, fingerprint, toy_config

from mmdet.engine.hooks.signal_hook import TrainingInterrupted
from mmdet.utils import run_folder
from mmdet.utils.checkpoint import UnreadableCheckpointError, label_of, read_checkpoint, save_checkpoint
from mmdet.utils.resumable import newest_readable
from mmdet.utils.run_folder import FolderInUseError, FolderLock, read_record

KEEP_1 = dict(default_hooks__checkpoint=dict(EVERY_3, interval=1, by_epoch=True, max_keep_ckpts=1))


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def change(path, **info):
    """Rewrite a checkpoint with other values in its message hub, as somebody else may."""
    checkpoint = read_checkpoint(path)
    checkpoint['message_hub']['runtime_info'].update(info)
    for key in info:
        checkpoint['message_hub']['resumed_keys'][key] = True
    save_checkpoint(checkpoint, path, label=label_of(path))


# --------------------------------------------------------------------------------------------------------------------
def _hold(folder, ready):
    FolderLock(folder).acquire()
    ready.set()
    multiprocessing.Event().wait(60)


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """A folder in which another process trains."""
    monkeypatch.setattr(run_folder, 'PATIENCE', 0.2)
    context = multiprocessing.get_context('fork')
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    yield tmp_path
    process.kill()
    process.join()


def test_the_second_run_in_a_folder_stops_with_a_sentence(busy):
    with pytest.raises(FolderInUseError, match=r'in use by another run \(process \d+ on'):
        build(toy_config(busy)).train()
    assert files(busy) == ['.run.lock']  # not even the config of the first one is overwritten


def test_all_ranks_of_the_second_run_stop(busy):
    with pytest.raises(AssertionError):
        train_ranks(busy, busy / 'prints', {})
    assert not list(busy.glob('*.pth')) and not list(busy.glob('prints*'))


def test_a_folder_of_checkpoints_elsewhere_is_claimed_too(busy, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('other') / busy.name
    hook = dict(type='CheckpointHook', out_dir=str(busy.parent))
    with pytest.raises(FolderInUseError):
        build(toy_config(work_dir, default_hooks__checkpoint=hook)).train()


# --------------------------------------------------------------------------------------------------------------------
def test_a_new_run_in_an_old_folder_continues_itself(tmp_path):
    train(toy_config(tmp_path))
    old = read_record(tmp_path).run_id
    train(toy_config(tmp_path, randomness=dict(seed=8)), CutOffHook(iteration=13))
    new = read_record(tmp_path).run_id
    assert new != old and label_of(tmp_path / 'epoch_3.pth')['run_id'] == old
    runner = train(toy_config(tmp_path, randomness=dict(seed=8)), resume=True)
    assert runner.resume_state.path == str(tmp_path / 'epoch_1.pth') and runner.run_claim.run_id == new
    whole = train(toy_config(tmp_path / 'whole', randomness=dict(seed=8)))
    assert fingerprint(runner) == fingerprint(whole)


def test_a_new_run_that_saved_nothing_begins_again_and_the_old_one_can_be_continued(tmp_path):
    train(toy_config(tmp_path, train_cfg__max_epochs=2))
    old = read_record(tmp_path).run_id
    train(toy_config(tmp_path), CutOffHook(iteration=3))
    runner = build(toy_config(tmp_path, resume=True))
    runner.resume_state.decide()
    assert runner.resume_state.path is None
    assert 'belongs to another run' in runner.resume_state.notes[0]
    runner = train(toy_config(tmp_path, load_from=str(tmp_path / 'epoch_2.pth')), resume=True)
    assert runner.run_claim.run_id == old and runner.iter == 24
    assert newest_readable(tmp_path)[0].name == 'epoch_3.pth'


def test_a_damaged_last_checkpoint_falls_back_within_its_run(tmp_path):
    train(toy_config(tmp_path))
    train(toy_config(tmp_path), CutOffHook(iteration=20))
    with open(tmp_path / 'epoch_2.pth', 'r+b') as file:
        file.truncate(5000)
    path, _, notes = newest_readable(tmp_path)
    assert path.name == 'epoch_1.pth' and notes[0].startswith('epoch_2.pth was not resumed')
    with open(tmp_path / 'epoch_1.pth', 'r+b') as file:
        file.truncate(5000)
    with pytest.raises(UnreadableCheckpointError, match=r'No checkpoint .* can be resumed.*epoch_2.*epoch_1.*epoch_3'):
        newest_readable(tmp_path)


def test_a_run_that_was_set_back_goes_on_from_there(tmp_path):
    train(toy_config(tmp_path))
    cfg = toy_config(tmp_path, load_from=str(tmp_path / 'epoch_1.pth'))
    train(cfg, CutOffHook(iteration=9), resume=True)
    assert newest_readable(tmp_path)[0].name == 'epoch_1.pth'
    runner = train(toy_config(tmp_path), resume=True)
    assert runner.resume_state.path.endswith('epoch_1.pth')


# --------------------------------------------------------------------------------------------------------------------
def test_a_run_elsewhere_leaves_the_old_folder_as_it_is(tmp_path):
    train(toy_config(tmp_path / 'old', **KEEP_1, train_cfg__max_epochs=2))
    before = files(tmp_path / 'old')
    assert any(name.startswith('best_') for name in before)
    changes = dict(KEEP_1, load_from=str(tmp_path / 'old' / 'epoch_2.pth'), train_cfg__max_epochs=6)
    shutil.copytree(tmp_path / 'old', tmp_path / 'copy')
    train(toy_config(tmp_path / 'new', **changes), CutOffHook(iteration=20), resume=True)
    assert files(tmp_path / 'new').count('run.json') == 1 and not list((tmp_path / 'new').glob('epoch_*'))
    runner = train(toy_config(tmp_path / 'new', **KEEP_1, train_cfg__max_epochs=6), resume=True)
    assert runner.resume_state.path == changes['load_from'], 'killed before its first save, it goes on from there'
    copy = train(toy_config(tmp_path / 'copy', **KEEP_1, train_cfg__max_epochs=6), resume=True)
    assert files(tmp_path / 'old') == before
    assert runner.iter == copy.iter == 48
    assert runner.run_claim.run_id != copy.run_claim.run_id == read_record(tmp_path / 'old').run_id
    for folder in ('new', 'copy'):
        assert len(list((tmp_path / folder).glob('epoch_*'))) == len(list((tmp_path / folder).glob('best_*'))) == 1


@pytest.mark.parametrize('kind', ['file', 'folder', 'checkpoint', 'own name'])
def test_no_path_from_a_checkpoint_is_deleted(kind, tmp_path):
    run, victim = tmp_path / 'run', tmp_path / 'victim' / 'best_mAP_epoch_1.pth'
    victim.parent.mkdir()
    train(toy_config(run, **KEEP_1, train_cfg__max_epochs=2))
    if kind == 'folder':
        victim.mkdir()
        (victim / 'file').write_text('precious')
    elif kind == 'file':
        victim.write_text('precious')
    else:
        shutil.copy(run / 'epoch_2.pth', victim)
    path = str(victim)
    if kind == 'own name':  # a file in the folder with a name of the hook's, that is none of the run's
        victim = run / 'epoch_77.pth'
        victim.write_text('precious')
        path = str(victim)
    relative = os.path.relpath(victim, run)
    names = [relative, path, victim.name, '..', '', 3, None]
    change(
        run / 'epoch_2.pth',
        best_ckpt=path,
        best_score=-1.0,
        last_ckpt=path,
        keep_ckpt_ids=[77, f'../../victim/{victim.name}', '../x', 2],
        surplus_ckpts=names,
    )
    train(toy_config(run, **KEEP_1, train_cfg__max_epochs=5), resume=True)
    assert victim.exists() and (kind != 'folder' or (victim / 'file').exists())


# --------------------------------------------------------------------------------------------------------------------
class InterruptHook(Hook):
    """As SIGTERM does."""

    def __init__(self, *iterations):
        self.iterations = iterations

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter in self.iterations:
            next(hook for hook in runner.hooks if hasattr(hook, 'received')).received = 15


@pytest.mark.parametrize('changes', [KEEP_1, dict(default_hooks__checkpoint=EVERY_3)], ids=['epochs', 'iterations'])
def test_interrupted_runs_leave_the_files_of_the_whole_run(changes, tmp_path):
    whole = train(toy_config(tmp_path / 'whole', **changes))
    for iteration in (3, 4, 11, 17, 23):
        runner = build(toy_config(tmp_path / 'cut', **changes, resume=True))
        runner.register_hook(InterruptHook(iteration))
        with pytest.raises(TrainingInterrupted):
            runner.train()
        assert newest_readable(tmp_path / 'cut')[0].name == f'iter_{iteration + 1}.pth'
        assert len(list((tmp_path / 'cut').glob('iter_*'))) <= 3
    runner = train(toy_config(tmp_path / 'cut', **changes), resume=True)
    assert fingerprint(runner) == fingerprint(whole)
    assert files(tmp_path / 'cut') == files(tmp_path / 'whole')


STOPS = {
    'before the file has its name': ('os.replace', 'epoch_2.pth'),
    'before last_checkpoint is written': ('mmdet.engine.hooks.checkpoint_hook.point_to', 'epoch_2.pth'),
    'before the surplus is removed': ('os.remove', 'epoch_1.pth'),
    'before the best is named': ('os.replace', 'best_mAP_epoch_3.pth'),
    'before the former best is removed': ('os.remove', 'best_mAP_epoch_1.pth'),
}


def _train_until(folder, place, name):
    """Train in a process that ends, as by SIGKILL, when it is about to do something with a file of a name."""
    module, _, function = place.rpartition('.')
    module = importlib.import_module(module)
    real = getattr(module, function)

    def stop(*args, **kwargs):
        if any(str(argument).endswith(f'/{name}') or argument == name for argument in args):
            os._exit(9)
        return real(*args, **kwargs)

    setattr(module, function, stop)
    build(toy_config(folder, **KEEP_1)).train()


@pytest.mark.parametrize('name', STOPS)
def test_a_save_that_was_stopped_leaves_nothing(name, tmp_path):
    whole = train(toy_config(tmp_path / 'whole', **KEEP_1))
    process = multiprocessing.get_context('fork').Process(target=_train_until, args=(tmp_path / 'cut', *STOPS[name]))
    process.start()
    process.join(60)
    assert process.exitcode == 9 and files(tmp_path / 'cut') != files(tmp_path / 'whole')
    assert fingerprint(train(toy_config(tmp_path / 'cut', **KEEP_1), resume=True)) == fingerprint(whole)
    assert files(tmp_path / 'cut') == files(tmp_path / 'whole')


# --------------------------------------------------------------------------------------------------------------------
def strip(path):
    """A checkpoint as MMDetection 3.x writes it."""
    checkpoint = read_checkpoint(path)
    for key in ('run_id', 'progress', 'mmdet_version'):
        checkpoint['meta'].pop(key)
    save_checkpoint(checkpoint, path)


def test_a_run_of_3x_is_taken_over(tmp_path):
    train(toy_config(tmp_path, train_cfg__max_epochs=2))
    (tmp_path / 'run.json').unlink()
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        strip(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text('/somewhere/else/epoch_2.pth')
    train(toy_config(tmp_path), CutOffHook(iteration=19), resume=True)
    runner = train(toy_config(tmp_path), CutOffHook(iteration=20), resume=True)
    assert runner.resume_state.path.endswith('epoch_2.pth')
    (tmp_path / 'epoch_2.pth').write_bytes(b'')
    runner = train(toy_config(tmp_path), resume=True)
    assert runner.resume_state.path.endswith('epoch_1.pth') and runner.iter == 24
    assert read_record(tmp_path).adopts


@pytest.mark.parametrize(
    'key', ['meta', 'state_dict', 'optimizer', 'message_hub', 'meta.epoch', 'meta.iter', 'message_hub.runtime_info']
)
def test_a_checkpoint_without_a_required_key_falls_back(key, tmp_path):
    train(toy_config(tmp_path), CutOffHook(iteration=20))
    checkpoint = read_checkpoint(tmp_path / 'epoch_2.pth')
    label, (*path, last) = label_of(tmp_path / 'epoch_2.pth'), key.split('.')
    node = checkpoint[path[0]] if path else checkpoint
    del node[last]
    save_checkpoint(checkpoint, tmp_path / 'epoch_2.pth', label=label)
    found, _, notes = newest_readable(tmp_path)
    assert found.name == 'epoch_1.pth' and key in notes[0] and 'epoch_2.pth' in notes[0]
    if key != 'optimizer':
        with pytest.raises(ValueError, match=rf'cannot be resumed: it has no .*{key}'):
            train(toy_config(tmp_path, load_from=str(tmp_path / 'epoch_2.pth')), resume=True)


@pytest.mark.parametrize('kind', ['long name', 'loop', 'folder', 'nothing', 'bytes', 'pointer folder', 'pointer loop'])
def test_odd_pointers_and_files_fall_back(kind, tmp_path):
    train(toy_config(tmp_path), CutOffHook(iteration=20))
    pointer, last = tmp_path / 'last_checkpoint', tmp_path / 'epoch_2.pth'
    if kind == 'long name':
        pointer.write_text('x' * 9000 + '.pth')
    elif kind == 'nothing':
        pointer.write_text('epoch_5.pth')
    elif kind == 'bytes':
        pointer.write_bytes(b'\0\xff/../\n')
    elif kind.startswith('pointer'):
        pointer.unlink()
        pointer.mkdir() if kind == 'pointer folder' else pointer.symlink_to(pointer.name)
    else:
        last.unlink()
        last.mkdir() if kind == 'folder' else last.symlink_to(last.name)
    found, _, notes = newest_readable(tmp_path)
    assert found.name == ('epoch_1.pth' if kind in ('loop', 'folder') else 'epoch_2.pth') and len(notes) == 1


def test_runs_that_begin_in_one_second_share_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(time, 'time', lambda: 1.7e9)
    first, second = (build(toy_config(tmp_path / name)) for name in 'ab')
    assert first.timestamp < second.timestamp
    assert first.message_hub is not second.message_hub
    assert first.logger is not second.logger
