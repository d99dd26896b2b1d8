"""The closed machine: honest files read as torch and pickle read them, hostile ones end in a sentence, soon."""

import collections
import io
import os
import pickle
import resource
import runpy
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmdet.apis.offline import load_results
from mmdet.errors import UserError
from mmdet.utils import unpickling
from mmdet.utils.checkpoint import UnreadableCheckpointError, read_checkpoint, read_file
from mmdet.utils.tensor_files import read_results, read_tensors
from mmdet.utils.unpickling import read_pickle

ROOT = Path(__file__).resolve().parents[2]


def same(one, other):
    assert type(one) is type(other), (type(one), type(other))
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
        same(getattr(one, '_metadata', None), getattr(other, '_metadata', None))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, one.stride(), one.requires_grad) == (
            *(other.dtype, other.shape, other.stride(), other.requires_grad),
        )
        assert one.element_size() * one.numel() == 0 or torch.equal(bits(one), bits(other))
    else:
        assert one == other or one != one


def bits(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def optimizer_state(kind, **options):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    optimizer = kind([dict(params=[p]) for p in model.parameters()], lr=0.1, **options)
    for _ in range(2):
        model(torch.rand(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()
    return dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict())


def honest():
    base = torch.arange(24.0).reshape(4, 6)
    yield 'dtypes', [torch.ones(3, dtype=d) for d in (torch.float64, torch.float16, torch.bfloat16, torch.complex64)]
    yield 'integers', [torch.ones(3, dtype=d) for d in (torch.int64, torch.int32, torch.int16, torch.int8, torch.bool)]
    yield 'new dtypes', [torch.ones(3).to(d) for d in (torch.float8_e4m3fn, torch.uint16)]
    yield 'views', dict(a=base, b=base[1:, ::2], c=base.t(), d=base[0, 0], e=base[:0], f=torch.ones(1).expand(5, 3))
    yield 'parameters', [nn.Parameter(base), nn.Parameter(base, requires_grad=False), torch.ones(2, requires_grad=True)]
    yield (
        'values',
        dict(a=1, b=-(2**70), c=1.5, d='ä', e=b'\0x', f=None, g=True, h=(1, (2,)), i=[[]], j={}, k=2j, l={1}),
    )
    yield (
        'sizes and types',
        dict(a=torch.Size([1, 2]), b=torch.float32, c=torch.device('cpu'), d=torch.device('cuda', 1)),
    )
    yield 'keys', {1: 'a', (1, ('b', 2)): 'c', None: 'd', 1.5: 'e', False: 'f'}
    yield 'state dict', nn.BatchNorm2d(3).state_dict()
    yield 'sgd', optimizer_state(torch.optim.SGD, momentum=0.9)
    yield 'adamw', optimizer_state(torch.optim.AdamW)
    yield 'random states', dict(torch=torch.get_rng_state(), python=__import__('random').getstate())


HONEST = list(honest())


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
@pytest.mark.parametrize(('name', 'value'), HONEST, ids=[name for name, _ in HONEST])
def test_reads_what_torch_reads(name, value, new, tmp_path):
    if name == 'new dtypes' and not new:
        pytest.skip('torch itself cannot write them so')
    torch.save(value, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    same(read_file(tmp_path / 'a.pth'), torch.load(tmp_path / 'a.pth', weights_only=True))


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_tensors_go_on_sharing_a_storage(new, tmp_path):
    base = torch.zeros(6)
    torch.save([base[:3], base[2:]], tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    one, other = read_file(tmp_path / 'a.pth')
    version = other._version
    one[2] = 7
    assert other[0] == 7 and other._version == version


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
@pytest.mark.parametrize(
    'place',
    ['meta', torch.device('meta'), {'cpu': 'meta'}, lambda storage, location: torch.UntypedStorage(12, device='meta')],
)
def test_map_location(place, new, tmp_path):
    torch.save(dict(a=torch.ones(3)), tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    assert read_file(tmp_path / 'a.pth', place)['a'].device.type == 'meta'
    for here in (None, 'cpu', {}, lambda storage, location: storage, lambda storage, location: None):
        assert read_file(tmp_path / 'a.pth', here)['a'].sum() == 3


def test_many_views_of_one_storage(tmp_path):
    flat = torch.zeros(1_000_000)
    torch.save([flat[i : i + 2] for i in range(500)], tmp_path / 'a.pth')
    assert len(read_file(tmp_path / 'a.pth')) == 500


def test_other_byte_order(tmp_path):
    torch.save(dict(a=torch.tensor([1.5, 2]), b=torch.tensor([1 + 2j])), tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as old, zipfile.ZipFile(tmp_path / 'b.pth', 'w') as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith('byteorder'):
                data = b'big'
            elif '/data/' in entry.filename:
                data = np.frombuffer(data, '<f4').astype('>f4').tobytes()
            new.writestr(entry.filename, data)
    loaded = read_file(tmp_path / 'b.pth')
    assert loaded['a'].tolist() == [1.5, 2] and loaded['b'].tolist() == [1 + 2j]


def test_checksums_are_compared_where_there_are_any(tmp_path):
    torch.save(dict(a=torch.zeros(1000)), tmp_path / 'a.pth')
    data = bytearray((tmp_path / 'a.pth').read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / 'b.pth').write_bytes(data)
    with pytest.raises(UnreadableCheckpointError, match=r"b\.pth was refused: its record 'data/0' is damaged"):
        read_file(tmp_path / 'b.pth')
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(a=torch.zeros(1000)), tmp_path / 'c.pth')
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_file(tmp_path / 'c.pth')['a'].sum() == 0


@pytest.mark.parametrize('protocol', range(6))
def test_reads_what_pickle_reads(protocol):
    value = dict(
        plain=[1, -1, 300, 70000, 2**40, 1.5, 'a\n"ä', '', b'x' * 300, True, None, (), (1,), (1, 2), (1, 2, 3, 4)],
        sets=[{1, 2}, frozenset({'a'})],
        long='x' * 70000,
        array=np.arange(6.0).reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6).reshape(2, 3)),
        many=list(range(3000)),
        shared=[[1]] * 3,
        ordered=collections.OrderedDict(a=1),
    )
    read = read_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    for key in ('array', 'fortran'):
        assert np.array_equal(read.pop(key), value.pop(key))
    assert read == value
    assert read_pickle(io.BytesIO(pickle.dumps(np.float32(1.5), protocol))) == 1.5


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_results_of_a_test_run(protocol, tmp_path):
    results = [
        dict(
            img_id=i,
            ori_shape=(4, 5),
            scale_factor=np.array([1.0, 2.0]),
            pred_instances=dict(
                bboxes=torch.rand(3, 4), labels=torch.arange(3), masks=[dict(size=[4, 5], counts=b'0')]
            ),
        )
        for i in range(3)
    ]
    (tmp_path / 'results.pkl').write_bytes(pickle.dumps(results, protocol))
    read = read_results(tmp_path / 'results.pkl')
    assert torch.equal(read[1]['pred_instances']['bboxes'], results[1]['pred_instances']['bboxes'])
    assert read[2]['pred_instances']['masks'] == [dict(size=[4, 5], counts=b'0')]


# --------------------------------------------------------------------------------------------------------------------
# Hostile files, as opcodes
def text(value):
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def name(path):
    module, _, attribute = path.rpartition('.')
    return f'c{module}\n{attribute}\n'.encode()


def put(index):
    return b'r' + struct.pack('<I', index)


def doubled(levels, start=b')', pair=b'\x86'):
    """A tuple that holds a tuple twice, and so on."""
    code = start + put(0)
    for level in range(1, levels):
        code += (
            b'h\0' * 0 + b'j' + struct.pack('<I', level - 1) + b'j' + struct.pack('<I', level - 1) + pair + put(level)
        )
    return code


def doubled_lists(levels):
    code = b']' + put(0)
    for level in range(1, levels):
        again = b'j' + struct.pack('<I', level - 1)
        code += b']' + b'(' + again + again + b'e' + put(level)
    return code


LARGE = 1_000_000


def often(large, copying, times=3000):
    """Something large once, then what copies it many times."""
    return large + put(0) + b'0(' + copying * times + b'l'


def number(value):
    data = value.to_bytes(20, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


DTYPE = name('numpy.dtype') + text('f8') + b'\x89\x88\x87R'
ARRAY = name('numpy._core.multiarray._reconstruct') + name('numpy.ndarray') + b'K\0\x85C\x01b\x87R'
FUNCTIONS = [path for path, make in unpickling.TABLE.items() if make] + ['torch._utils._rebuild_tensor_v2']
HOSTILE = {
    'shared tuples': doubled(200),
    'shared lists': doubled_lists(60),
    'shared dicts': b'}'
    + put(0)
    + b''.join(
        b'}' + b''.join(text(key) + b'j' + struct.pack('<I', i) + b's' for key in 'ab') + put(i + 1) for i in range(60)
    ),
    'shared tuples as a key': b'}' + doubled(200) + b'Ns',
    'shared tuples in a set': b'\x8f(' + doubled(200) + b'\x90',
    'shared tuples in a frozen set': b'(' + doubled(200) + b'\x91',
    'shared tuples as an argument of set': name('builtins.set') + b'](' + doubled(200) + b'e\x85R',
    'shared tuples as a dtype': name('numpy.dtype') + doubled(200) + b'\x85R',
    'shared tuples as a function': doubled(200) + b')R',
    'shared tuples as a persistent id': doubled(200) + b'Q',
    'shared tuples as a shape': ARRAY + b'(K\x01' + doubled(200) + DTYPE + b'\x89C\x00tb',
    'a list in itself': b']' + put(0) + b'j\0\0\0\0a',
    'a dict in itself': b'}' + put(0) + text('a') + b'j\0\0\0\0s',
    'deep lists': b']' * 100_000 + b'a' * 99_999,
    'deep tuples': b')' + b'\x85' * 100_000,
    'a huge bytearray': name('builtins.bytearray') + number(2**62) + b'\x85R',
    'huge bytes': name('builtins.bytes') + number(2**62) + b'\x85R',
    'a huge list': name('builtins.list') + name('builtins.bytes') + b'\x85R',
    'a huge tensor': name('torch.Tensor') + number(2**60) + b'\x85R',
    'an array of a huge shape': ARRAY + b'(K\x01' + number(2**62) + b'K\0\x86' + DTYPE + b'\x89C\0tb',
    'an array beyond its bytes': ARRAY + b'(K\x01' + number(2**62) + b'\x85' + DTYPE + b'\x89C\0tb',
    'copies of bytes': often(
        b'B' + struct.pack('<I', LARGE) + b'x' * LARGE, name('builtins.bytes') + b'j\0\0\0\0\x85R'
    ),
    'copies of a text': often(text('x' * LARGE), name('_codecs.encode') + b'j\0\0\0\0\x85R'),
    'copies of a list': often(b'(' + b'N' * LARGE + b'l', name('builtins.list') + b'j\0\0\0\0\x85R'),
    'copies of a dict': often(
        b'(' + b''.join(b'M' + struct.pack('<H', i) + b'N' for i in range(60_000)) + b'd',
        name('builtins.dict') + b'j\0\0\0\0\x85R',
    ),
    'copies of an array': often(
        b'B' + struct.pack('<I', LARGE) + b'x' * LARGE,
        ARRAY + b'(K\x01J' + struct.pack('<i', LARGE // 8) + b'\x85' + DTYPE + b'\x89j\0\0\0\0tb',
    ),
    'a storage parsed often': often(
        b'B' + struct.pack('<I', LARGE) + b'N0' * (LARGE // 2),
        name('torch.storage._load_from_bytes') + b'j\0\0\0\0\x85R',
    ),
    'a large key often': b'(' + b'K\1' * 10_000 + b't' + put(0) + b'0}' + b'j\0\0\0\0Ns' * 100_000,
    'a huge key': b'}' + number(2**100) + b'Ns',
    'a huge text': b'X\xff\xff\xff\xff',
    'a huger text': b'\x8d' + b'\x7f' * 8,
    'huge bytes of protocol 4': b'\x8e' + b'\x7f' * 8,
    'a huge integer': b'\x8b' + struct.pack('<i', 2**30),
    'an extension': b'\x82\x01',
    'a buffer': b'\x97',
    'a list of a class': b'(' + text('x') + b'ios\nsystem\n',
    'no stack': b'0',
    'no mark': b't',
    'a memo of nothing': b'h\x05',
    'append to a function': name('builtins.set') + b'Na',
    'set an item of a function': name('builtins.set') + text('__code__') + b'Ns',
    'set an item of a list': b']' + b'K\0K\0s',
    'no end': b'N' * 100,
    **{f'state of {path}': name(path) + b'}' + text('__defaults__') + b')sb' for path in FUNCTIONS},
    **{f'slots of {path}': name(path) + b'N}' + text('__code__') + b'Ns\x86b' for path in FUNCTIONS},
    'state of a tuple': b')}b',
    'state of a set': b'\x8f}b',
}


def write(path, code, zipped=True):
    code = b'\x80\x02' + code + b'.'
    if not zipped:
        path.write_bytes(code)
        return
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data.pkl', code)
        file.writestr('archive/version', '3\n')


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'pickle'])
@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_pickle_ends_in_a_sentence(kind, zipped, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    before = {path: dict(vars(make)) for path, make in unpickling.TABLE.items() if hasattr(make, '__dict__')}
    defaults = [getattr(make, '__defaults__', None) for make in unpickling.TABLE.values()]
    write(tmp_path / 'a.pkl', HOSTILE[kind], zipped)
    started = time.perf_counter()
    with pytest.raises(UnreadableCheckpointError) as caught:
        read_checkpoint(tmp_path / 'a.pkl')
    assert time.perf_counter() - started < 10 and len(str(caught.value)) < 700
    assert before == {path: dict(vars(make)) for path, make in unpickling.TABLE.items() if hasattr(make, '__dict__')}
    assert defaults == [getattr(make, '__defaults__', None) for make in unpickling.TABLE.values()]


def test_many_small_containers_are_counted(monkeypatch):
    machine = unpickling.Machine(io.BytesIO(b'(' + b']' * 5000 + b'l.'), max_containers=4000)
    with pytest.raises(pickle.UnpicklingError, match='more lists, dicts and tuples'):
        machine.run()


def tensor(size, stride, offset=b'K\0', count=b'K\x04'):
    storage = b'(' + text('storage') + name('torch.FloatStorage') + text('0') + text('cpu') + count + b'tQ'
    numbers = [b'(' + b''.join(number(n) for n in row) + b't' for row in (size, stride)]
    return name('torch._utils._rebuild_tensor_v2') + b'(' + storage + offset + b''.join(numbers) + b'\x89Ntr' + b'R'


@pytest.mark.parametrize(
    'size, stride, offset, count',
    [
        ((5,), (1,), 0, 4),
        ((2,), (4,), 0, 4),
        ((2**40,), (0,), 0, 4),
        ((2**40, 2**40), (0, 0), 0, 4),
        ((2,), (1,), 3, 4),
        ((2,), (1,), -1, 4),
        ((-2,), (1,), 0, 4),
        ((2,), (-1,), 0, 4),
        ((2, 2), (1,), 0, 4),
        ((2**62, 0), (1, 1), 0, 4),
        ((1,), (1,), 0, 5),
        ((1,), (1,), 0, 2**62),
        ((1,), (1,), 0, -1),
    ],
)
def test_tensor_beyond_its_storage(size, stride, offset, count, tmp_path):
    storage = b'(' + text('storage') + name('torch.FloatStorage') + text('0') + text('cpu') + number(count) + b'tQ'
    rows = b''.join(b'(' + b''.join(map(number, row)) + b't' for row in (size, stride))
    code = name('torch._utils._rebuild_tensor_v2') + b'(' + storage + number(offset) + rows + b'\x89NtR.'
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as file:
        file.writestr('archive/data.pkl', b'\x80\x02' + code)
        file.writestr('archive/data/0', b'\0' * 16)
    with pytest.raises(UnreadableCheckpointError, match='refused'):
        read_file(tmp_path / 'a.pth')


def test_zip_bombs(tmp_path):
    torch.save(dict(a=torch.ones(4)), tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as old:
        records = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(tmp_path / 'packed.pth', 'w', zipfile.ZIP_DEFLATED) as new:
        for key, data in records.items():
            new.writestr(key, data + b'\0' * 50_000_000 * key.endswith('data/0'))
    with pytest.raises(UnreadableCheckpointError, match='compressed'):
        read_file(tmp_path / 'packed.pth')
    with zipfile.ZipFile(tmp_path / 'overlap.pth', 'w') as new:
        for key, data in records.items():
            new.writestr(key, data)
        new.writestr('a/data/1', b'\0' * 100_000)
        one = new.filelist[-1]
        for index in range(2, 50):  # the same bytes under many names
            entry = zipfile.ZipInfo(f'a/data/{index}')
            for slot in ('header_offset', 'file_size', 'compress_size', 'CRC'):
                setattr(entry, slot, getattr(one, slot))
            new.filelist.append(entry)
    with pytest.raises(UnreadableCheckpointError, match='overlap'):
        read_file(tmp_path / 'overlap.pth')


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'old'])
def test_damaged_bytes_end_in_a_sentence(new, tmp_path):
    """Single bits and cut ends: read as they were, or refused; never another error, never other numbers in a zip."""
    value = dict(
        state_dict=nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict(), meta=dict(a=[1, 'b', (2.5,)])
    )
    torch.save(value, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    data = (tmp_path / 'a.pth').read_bytes()
    want = torch.load(tmp_path / 'a.pth', weights_only=True)
    random = np.random.RandomState(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.randint(len(data))] ^= 1 << random.randint(8)
        if random.rand() < 0.2:
            damaged = damaged[: random.randint(len(data))]
        (tmp_path / 'b.pth').write_bytes(damaged)
        try:
            read = read_file(tmp_path / 'b.pth')
        except UnreadableCheckpointError as error:
            assert len(str(error)) < 700
        else:
            if new:
                same(read, want)


def test_memory_stays_within_the_size_of_the_file(tmp_path):
    """A child with little memory refuses what says that it is large."""
    write(tmp_path / 'a.pkl', HOSTILE['a huge bytearray'])
    write(tmp_path / 'b.pkl', HOSTILE['huge bytes of protocol 4'], zipped=False)
    code = (
        'import resource, sys; from mmdet.utils.checkpoint import read_file, UnreadableCheckpointError\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'for path in sys.argv[1:]:\n'
        '    try: read_file(path)\n'
        '    except UnreadableCheckpointError: pass\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)'
    )
    arguments = [sys.executable, '-c', code, str(tmp_path / 'a.pkl'), str(tmp_path / 'b.pkl')]
    done = subprocess.run(arguments, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000 * (1024 if sys.platform == 'darwin' else 1) and resource


# --------------------------------------------------------------------------------------------------------------------
class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize(
    'content',
    [
        pickle.dumps([dict(img_id=Call(os.system, 'touch attacked'))]),
        pickle.dumps(
            [dict(img_id=Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, 'touch attacked'))))]
        ),
        pickle.dumps(dict(a=1)),
        pickle.dumps([1]),
        b'\x80\x02' + HOSTILE['shared tuples'] + b'.',
        b'',
    ],
)
def test_results_of_others_run_no_code(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('results.pkl').write_bytes(content)
    for read in (read_results, load_results):
        with pytest.raises(UserError, match=r'results\.pkl'):
            read('results.pkl')
    assert os.listdir() == ['results.pkl']


@pytest.mark.parametrize('tool', ['eval_metric', 'analyze_results', 'confusion_matrix'])
def test_tools_run_no_code_of_results(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('results.pkl').write_bytes(pickle.dumps([dict(img_id=Call(os.system, 'touch attacked'))]))
    data = collections.namedtuple('Data', 'metainfo')({})
    monkeypatch.setattr('mmdet.apis.offline.dataset_of', lambda *args, **kwargs: data)
    module = runpy.run_path(str(ROOT / 'tools' / 'analysis_tools' / f'{tool}.py'))
    Path('config.py').write_text('test_evaluator = dict(type="CocoMetric")')
    arguments = ['config.py', 'results.pkl', 'shown'][: 2 if tool == 'eval_metric' else 3]
    with pytest.raises(UserError, match=r'it asks for posix\.system, which weights never need'):
        module['main'](module['parse_args'](arguments))
    assert 'attacked' not in os.listdir()


def test_nothing_else_unpickles():
    """Other readers of pickles stand nowhere in the package but for what ranks of one run send each other."""
    allowed = {'mmdet/utils/dist_utils.py'}
    found = set()
    for folder in ('mmdet', 'tools', 'demo', 'benchmarks'):
        for file in (ROOT / folder).rglob('*.py'):
            source = file.read_text()
            words = (
                'pickle.load',
                'torch.load(',
                'Unpickler(',
                'joblib',
                'mmengine.load(',
                'fileio import load',
                'allow_pickle=True',
            )
            if any(word in source for word in words):
                found.add(file.relative_to(ROOT).as_posix())
    assert found <= allowed, found - allowed


@pytest.mark.parametrize('order', ['mmdet, mmengine.runner', 'mmengine.runner, mmdet', 'mmengine.model, mmdet.models'])
def test_every_order_of_imports_is_safe(order, tmp_path):
    """init_cfg without a default scope, torch's variable set, and YAML, in a fresh process."""
    torch.save(dict(state_dict={}, evil=Call(os.system, f'touch {tmp_path}/attacked')), tmp_path / 'evil.pth')
    (tmp_path / 'evil.yaml').write_text(f'a: !!python/object/apply:os.system ["touch {tmp_path}/attacked"]')
    code = f"""
import {order}
import mmengine
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
module = BaseModule(init_cfg=dict(type='Pretrained', checkpoint='evil.pth'))
for attack in (module.init_weights, lambda: load_checkpoint(module, 'evil.pth'), lambda: mmengine.load('evil.yaml')):
    try:
        attack()
    except Exception as error:
        print('refused', type(error).__name__)
"""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'}
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    refused = [line.split()[1] for line in done.stdout.splitlines() if line.startswith('refused')]
    assert refused == ['UnreadableCheckpointError'] * 2 + ['ConstructorError'], done.stderr
    assert not (tmp_path / 'attacked').exists()


def test_every_scheme_of_mmengine_is_closed(tmp_path, monkeypatch):
    """Names of local files, and object stores, whose loaders call torch.load."""
    from mmengine.runner import checkpoint as module

    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save(Call(os.system, f'touch {tmp_path}/attacked'), tmp_path / 'evil.pth')
    monkeypatch.setattr(module, '_get_mmengine_home', lambda: str(tmp_path))
    monkeypatch.setattr(module, 'get_external_models', lambda: {'evil': 'evil.pth'})

    class Store:
        def get(self, path):
            return (tmp_path / 'evil.pth').read_bytes()

    monkeypatch.setattr(module, 'get_file_backend', lambda *args, **kwargs: Store())
    for address in ('open-mmlab://evil', 'openmmlab://evil', 's3://evil', 'petrel://evil', 'a:s3://evil'):
        with pytest.raises(UnreadableCheckpointError, match='refused'):
            read_checkpoint(address)
    with pytest.raises(UnreadableCheckpointError, match='refused'):
        module.torch.load(str(tmp_path / 'evil.pth'), weights_only=False)
    assert not (tmp_path / 'attacked').exists() and module.torch.nn is nn


@pytest.mark.parametrize('versions', [{'': 3}, {'': {'version': 'x'}}, {3: {'version': 1}}, {'': {'version': [1]}}])
def test_versions_of_modules_are_numbers(versions, tmp_path):
    state = nn.BatchNorm2d(2).state_dict()
    state._metadata.update(versions)
    torch.save(state, tmp_path / 'a.pth')
    nn.BatchNorm2d(2).load_state_dict(read_file(tmp_path / 'a.pth'))


LAUGHS = 'a0: &a0 [x, x]\n' + ''.join(f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]\n' for i in range(1, 12))


@pytest.mark.parametrize(
    'content, message',
    [
        (LAUGHS, 'aliases stand for'),
        (LAUGHS.replace('[', '{k: [').replace(']\n', ']}\n'), 'aliases stand for'),
        ('a: &a [*a]', 'aliases stand for'),
        ('[' * 2000, 'nested more than'),
        ('a: ' + '{a: ' * 500, 'nested more than'),
    ],
)
def test_yaml_bombs(content, message, tmp_path):
    import mmengine

    import mmdet  # noqa: F401

    (tmp_path / 'a.yaml').write_text(content)
    with pytest.raises(UserError, match=message):
        mmengine.load(str(tmp_path / 'a.yaml'))


def test_yaml_with_aliases(tmp_path):
    from mmdet.config.safe_yaml import load_yaml

    assert load_yaml('a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]') == dict(
        a={'x': 1}, b=dict(x=1, y=2), c=[{'x': 1}] * 2
    )
    assert load_yaml('&a x') == 'x' and load_yaml('') is None
    assert read_tensors(io.BytesIO(pickle.dumps(1))) == 1
