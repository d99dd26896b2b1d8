"""Checkpoints that try to run code are refused and do nothing; honest ones load with a report."""

import hashlib
import http.server
import os
import pickle
import struct
import subprocess
import threading
import zipfile
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mmdet.config import load_config, parse_stored_config
from mmdet.engine.weights import load_weights
from mmdet.utils import checkpoint as checkpoints
from mmdet.utils.checkpoint import UnreadableCheckpointError, read_checkpoint, save_checkpoint
from mmdet.utils.downloads import DownloadError


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


def raw_pickle(path, code: bytes):
    """A torch zip file around pickle opcodes of our own."""
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', code)
        file.writestr('archive/version', '3\n')
        file.writestr('archive/byteorder', 'little')


def text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def glob(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def object_dtype(flags: bytes) -> bytes:
    """numpy.dtype('O8', False, True) with its flags forged, then an array of raw pointers."""
    dtype = glob('numpy', 'dtype') + text('O8') + b'\x89\x88\x87R'
    dtype += b'(K\x03' + text('|') + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff' + b'K' + flags + b'tb'
    array = glob('numpy._core.multiarray', '_reconstruct') + glob('numpy', 'ndarray') + b'K\x00\x85C\x01b\x87R'
    return b'\x80\x02' + array + b'(K\x01K\x01\x85' + dtype + b'\x89C\x08' + b'A' * 8 + b'tb.'


MARK = 'attacked'


def attacks():
    touch = f'touch {MARK}'
    code = f"open('{MARK}', 'w').close()"
    yield 'os.system', Call(os.system, touch)
    yield 'subprocess', Call(subprocess.Popen, ['touch', MARK])
    yield 'eval', Call(eval, code)
    yield 'exec', Call(exec, code)
    yield '__import__', Call(__import__, 'antigravity')
    yield 'functools.partial', Call(partial, os.system, touch)
    yield 'open', Call(open, MARK, 'w')
    yield 'torch.load again', Call(torch.load, 'other.pth', None, None)
    yield 'numpy.load', Call(np.load, 'other.npy', None, True)
    yield 'object array', np.array([Call(os.system, touch)], dtype=object)
    yield 'structured array', np.zeros(2, dtype=[('a', 'f4'), ('b', 'O')])
    yield 'nested in optimizer state', OrderedDict(optimizer=dict(state={0: dict(step=Call(os.system, touch))}))
    yield 'module object', nn.Sequential(nn.Linear(2, 2))
    yield 'yaml loader', Call(__import__('yaml').unsafe_load, f'!!python/object/apply:os.system ["{touch}"]')


RAW = {
    'getattr chain': b'\x80\x02'
    + glob('builtins', 'getattr')
    + glob('numpy', 'dtype')
    + text('__globals__')
    + b'\x86R'
    + text('x')
    + b'\x86b.',
    'STACK_GLOBAL os.system': b'\x80\x04' + text('os') + text('system') + b'\x93' + text(f'touch {MARK}') + b'\x85R.',
    'INST opcode': b'(' + text(f'touch {MARK}') + b'ios\nsystem\n.',
    'OBJ opcode': b'(' + glob('os', 'system') + text(f'touch {MARK}') + b'o.',
    'forged dtype, flags 63': object_dtype(b'\x3f'),
    'forged dtype, flags 0': object_dtype(b'\x00'),
    'history buffer with a method': b'\x80\x02'
    + glob('mmengine.logging.history_buffer', 'HistoryBuffer')
    + b')\x81}'
    + text('_statistics_methods')
    + glob('os', 'system')
    + b'sb.',
}


def is_inert(value) -> bool:
    """Only plain values, tensors and numeric arrays."""
    if isinstance(value, dict):
        return all(is_inert(k) and is_inert(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_inert, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in 'biufcSU'
    return value is None or isinstance(value, (bool, int, float, str, bytes, torch.Tensor))


@pytest.mark.parametrize(('name', 'payload'), list(attacks()), ids=[name for name, _ in attacks()])
def test_malicious_object_is_refused(name, payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), extra=payload), 'model.pth')
    with pytest.raises(UnreadableCheckpointError, match=r'model\.pth was refused'):
        read_checkpoint('model.pth')
    assert sorted(os.listdir()) == ['model.pth']


@pytest.mark.parametrize('name', RAW)
def test_malicious_opcodes_have_no_effect(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw_pickle('model.pth', RAW[name])
    try:
        value = checkpoints.read_file('model.pth')
    except UnreadableCheckpointError:
        pass
    else:
        assert is_inert(value), value
    assert sorted(os.listdir()) == ['model.pth']


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_plain_pickle_files_are_refused(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open('model.pth', 'wb') as file:
        pickle.dump(dict(state_dict=Call(os.system, f'touch {MARK}')), file, protocol)
    with pytest.raises(UnreadableCheckpointError):
        read_checkpoint('model.pth')
    assert sorted(os.listdir()) == ['model.pth']


def test_names_that_other_libraries_allow_do_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(extra=Call(os.system, f'touch {MARK}')), 'model.pth')
    with torch.serialization.safe_globals([os.system]):
        with pytest.raises(UnreadableCheckpointError):
            read_checkpoint('model.pth')
        assert os.system in torch.serialization.get_safe_globals()
    assert MARK not in os.listdir()


@pytest.fixture
def web(tmp_path):
    """A web server on a folder."""
    folder = tmp_path / 'web'
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def test_downloads(web, tmp_path, monkeypatch):
    folder, url = web
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    torch.save(dict(state_dict=dict(weight=torch.ones(3))), folder / 'plain.pth')
    data = (folder / 'plain.pth').read_bytes()
    (folder / f'good-{hashlib.sha256(data).hexdigest()[:8]}.pth').write_bytes(data)
    (folder / 'forged-01234567.pth').write_bytes(data)
    torch.save(Call(os.system, f'touch {tmp_path / MARK}'), folder / 'evil.pth')
    for name in ('plain.pth', f'good-{hashlib.sha256(data).hexdigest()[:8]}.pth'):
        assert read_checkpoint(f'{url}/{name}')['state_dict']['weight'].sum() == 3
    with pytest.raises(DownloadError, match='does not have the hash 01234567'):
        read_checkpoint(f'{url}/forged-01234567.pth')
    with pytest.raises(UnreadableCheckpointError, match='refused'):
        read_checkpoint(f'{url}/evil.pth')
    cached = {path.name for path in (tmp_path / 'cache' / 'hub' / 'checkpoints').rglob('*.pth')}
    assert 'plain.pth' in cached and not cached & {'forged-01234567.pth', 'evil.pth'}
    assert not (tmp_path / MARK).exists()


def test_torchvision_scheme_goes_through_the_same_loader(web, tmp_path, monkeypatch):
    from mmengine.runner import checkpoint as module

    folder, url = web
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    torch.save(Call(os.system, f'touch {tmp_path / MARK}'), folder / 'evil.pth')
    monkeypatch.setattr(module, 'get_torchvision_models', lambda: {'resnet50': f'{url}/evil.pth'})
    with pytest.raises(UnreadableCheckpointError, match='refused'):
        read_checkpoint('torchvision://resnet50')
    assert not (tmp_path / MARK).exists()


def test_pretrained_initialisation_goes_through_the_same_loader(tmp_path, default_scope, monkeypatch):
    from mmengine.model import BaseModule
    from mmengine.runner import checkpoint as module
    from mmengine.runner.checkpoint import CheckpointLoader

    def unsafe(*args, **kwargs):
        raise AssertionError('not the loader of this package')

    monkeypatch.setattr(CheckpointLoader, '_schemes', dict.fromkeys(CheckpointLoader._schemes, unsafe))
    monkeypatch.setattr(module, 'load_from_http', unsafe)
    torch.save(Call(os.system, f'touch {tmp_path / MARK}'), tmp_path / 'evil.pth')
    module = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'evil.pth')))
    with pytest.raises(UnreadableCheckpointError, match='refused'):
        module.init_weights()
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    'source',
    [
        f"import os\nos.system('touch {MARK}')",
        f"a = __import__('os').system('touch {MARK}')",
        f"a = [x for x in open('{MARK}', 'w')]",
        "a = 'x'.__class__",
        "a = f'{open}'",
        'a = b = 1',
        'def f(): pass',
        'a = dict(**b)',
        'a = (lambda: 1)()',
        'a = 1 if True else 2',
        'a = 9 ** 9 ** 9',
        '(' * 3000,
    ],
)
def test_stored_config_is_never_run(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='stored config'):
        parse_stored_config(source)
    assert os.listdir() == []


def test_stored_config_literals():
    source = "a = dict(x=-1.5, y=[1, (2,), {'k': None}], z=inf)\nb = 'p' + 'q'\nc = float('inf')"
    assert parse_stored_config(source) == dict(
        a=dict(x=-1.5, y=[1, (2,), {'k': None}], z=float('inf')), b='pq', c=float('inf')
    )


def test_config_in_a_checkpoint_is_dropped_or_literal(tmp_path):
    save_checkpoint(dict(meta=dict(config='import os', cfg='a = 1', epoch=3), state_dict={}), tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['meta'] == dict(cfg='a = 1', epoch=3)


def test_yaml_config_cannot_run_code(tmp_path, monkeypatch):
    import mmengine

    monkeypatch.chdir(tmp_path)
    evil = tmp_path / 'evil.yaml'
    evil.write_text(f'a: !!python/object/apply:os.system ["touch {MARK}"]')
    for load in (load_config, mmengine.load):
        with pytest.raises(Exception, match='could not determine a constructor'):
            load(str(evil))
    assert os.listdir() == ['evil.yaml']
    (tmp_path / 'good.yaml').write_text('model: {type: RetinaNet}')
    assert load_config(tmp_path / 'good.yaml').model.type == 'RetinaNet'


# --------------------------------------------------------------------------------------------------------------------
def test_checkpoints_of_mmengine_and_older_numpy_load(tmp_path):
    from mmengine.logging import HistoryBuffer

    torch.save(
        dict(
            state_dict=OrderedDict(weight=torch.arange(3.0)),
            message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1]))),
            eta=np.float64(1.5),
            classes=np.array(['a', 'bc']),
            big_endian=np.arange(3, dtype='>i4'),
            fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        ),
        tmp_path / 'a.pth',
    )
    loaded = read_checkpoint(tmp_path / 'a.pth')
    assert loaded['message_hub']['log_scalars']['loss'].data[0].tolist() == [1, 2]
    assert loaded['eta'] == 1.5 and type(loaded['eta']) is float
    assert loaded['classes'].tolist() == ['a', 'bc']
    assert loaded['big_endian'].tolist() == [0, 1, 2]
    assert loaded['fortran'].tolist() == [[0, 1, 2], [3, 4, 5]]
    data = (tmp_path / 'a.pth').read_bytes()
    assert b'numpy._core' in data


def test_what_we_save_needs_no_table(tmp_path):
    checkpoint = dict(
        state_dict=nn.BatchNorm2d(3).state_dict(),
        numbers=[np.float32(1.5), np.int64(3), np.arange(3), np.bool_(True)],
        path=tmp_path,
        odd=object(),
        function=len,
    )
    save_checkpoint(checkpoint, tmp_path / 'a.pth')
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / 'a.pth') == []
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['numbers'][:2] == [1.5, 3] and loaded['function'] is None
    assert loaded['state_dict']._metadata['']['version'] == 2


def test_safetensors(tmp_path):
    model = nn.Linear(3, 2)
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'a.safetensors')
    other = nn.Linear(3, 2)
    report = load_weights(other, read_checkpoint(tmp_path / 'a.safetensors'))
    assert torch.equal(other.weight, model.weight) and (report.loaded, report.total) == (2, 2)
    (tmp_path / 'b.safetensors').write_bytes(b'nonsense')
    with pytest.raises(UnreadableCheckpointError):
        read_checkpoint(tmp_path / 'b.safetensors')


def test_failed_save_leaves_the_former_file(tmp_path, monkeypatch):
    target = tmp_path / 'a.pth'
    save_checkpoint(dict(state_dict=dict(a=torch.ones(1))), target)
    before = target.read_bytes()

    def full_disk(*args, **kwargs):
        args[1].write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(dict(state_dict=dict(a=torch.zeros(1))), target)
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']


def detector():
    return nn.ModuleDict(dict(backbone=nn.Linear(4, 4), neck=nn.Linear(4, 4), head=nn.Linear(4, 3)))


def test_report_names_shapes_and_missing():
    state = detector().state_dict()
    state['head.weight'] = torch.zeros(80, 4)
    del state['neck.bias']
    state['extra.weight'] = torch.zeros(1)
    report = load_weights(detector(), dict(state_dict=state), source='x.pth')
    assert str(report) == (
        'Loaded 4 of 6 tensors from x.pth; 1 left out for their shape (file -> model): head.weight 80x4 -> 3x4; '
        '1 missing: neck.bias; 1 of the file unused: extra.weight.'
    )
    with pytest.raises(ValueError, match='strict load allows none'):
        load_weights(detector(), dict(state_dict=state), strict=True)


class Renamed(nn.Linear):
    """A layer whose weight had another name."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if prefix + 'kernel' in state_dict:
            state_dict[prefix + 'weight'] = state_dict.pop(prefix + 'kernel')
        super()._load_from_state_dict(state_dict, prefix, *args)


@pytest.mark.parametrize('columns, wrong', [(4, []), (5, [('head.weight', (3, 5), (3, 4))])])
def test_shapes_are_compared_under_the_new_names(columns, wrong):
    model = nn.ModuleDict(dict(detector(), head=Renamed(4, 3)))
    state = model.state_dict()
    del state['head.weight']
    state['head.kernel'] = torch.ones(3, columns)
    report = load_weights(model, dict(state_dict=state))
    assert (report.wrong_shape, report.missing, report.unexpected) == (wrong, [], [])
    assert bool((model.head.weight == 1).all()) == (not wrong)
    assert not any(module._load_state_dict_pre_hooks for module in model.modules())


def test_one_number_fits_a_scalar():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    assert load_weights(model, dict(scale=torch.tensor([3.0]))).loaded == 1 and model.scale == 3


def test_the_detector_inside_a_test_time_augmentation_is_loaded():
    from mmengine.model import BaseTTAModel

    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list[0]

    inner = nn.Module()
    inner.test_step, inner.head = None, nn.Linear(2, 2)
    report = load_weights(Augmented(inner), {'head.weight': torch.zeros(2, 2), 'head.bias': torch.ones(2)})
    assert (report.loaded, report.total) == (2, 2) and inner.head.bias.sum() == 2


def test_checkpoint_of_another_architecture_is_an_error():
    with pytest.raises(ValueError, match=r'Loaded 0 of 6 .*under half: .*another architecture than the ModuleDict'):
        load_weights(detector(), nn.Conv2d(1, 1, 1).state_dict())


def test_names_that_are_no_text_are_left_out():
    assert load_weights(detector(), {**detector().state_dict(), 3: torch.ones(1), None: 2}).loaded == 6


def test_wrapped_models_load():
    state = {f'module.{name}': value for name, value in detector().state_dict().items()}
    assert load_weights(detector(), state).loaded == 6


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 half a zip', b'not a checkpoint at all'])
def test_damaged_file_is_named(content, tmp_path):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(UnreadableCheckpointError, match=r'a\.pth'):
        read_checkpoint(tmp_path / 'a.pth')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='There is no checkpoint'):
        read_checkpoint(tmp_path / 'a.pth')
