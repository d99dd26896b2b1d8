"""What happens to bytes, values and pickles, by a seeded source of randomness."""

import copy
import pickletools

NAMES = str.split(
    'os.system posix.system builtins.eval builtins.exec builtins.__import__ builtins.open subprocess.Popen os.remove '
    'shutil.rmtree runpy.run_path importlib.import_module functools.partial operator.methodcaller pickle.loads '
    'torch.load torch.hub.load torch.utils.cpp_extension.load fuzz_canary.run mmengine.Config.fromfile '
    'mmdet.models.FuzzCanary mmpretrain.ResNet numpy.load types.FunctionType types.CodeType pathlib.Path'
)
ALLOWED = str.split(
    'collections.OrderedDict collections.defaultdict builtins.set builtins.getattr builtins.bytearray _codecs.encode '
    'numpy.dtype numpy.ndarray numpy._core.multiarray._reconstruct numpy._core.multiarray.scalar torch.Size '
    'torch._utils._rebuild_tensor_v2 torch._utils._rebuild_parameter torch.storage._load_from_bytes torch.FloatStorage '
    'torch._tensor._rebuild_from_type_v2 mmengine.logging.history_buffer.HistoryBuffer torch.device torch.float32'
)
ODD = [
    *(
        None,
        True,
        '',
        ' ',
        'x' * 5000,
        '../../x',
        '/etc/passwd',
        'nan',
        '1',
        'ü\0\ud800',
        0,
        -1,
        1,
        2**31,
        2**63,
        10**400,
    ),
    *(1e308, -1e308, 0.5, float('nan'), float('inf'), [], {}, [[]], [{}], [[[[[1]]]]], {'': None}),
    [1, 2, 3, 4, 5],
]


def damage(rng, data):
    """Bytes with one to eight faults."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 512))
        kind = rng.randrange(7)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place : place + length] = bytes(len(data[place : place + length]))
        elif kind == 2:
            data[place:place] = rng.randbytes(length)
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place : place + length] = rng.choice((b'\xff', b'\x7f', b'\x80', b'<', b'"', b'(')) * length
        elif kind == 5:
            other = rng.randrange(len(data) + 1)
            data[place:place] = data[other : other + length]
        elif rng.random() < 0.2:
            del data[place:]
    return bytes(data)


def places(value, path=()):
    """The paths of all values within a value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def twist(rng, value):
    """A copy in which one to three values are others, missing, doubled or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        every = [path for path in places(value) if path]
        if not every:
            break
        *path, last = rng.choice(every)
        parent = value
        for key in path:
            parent = parent[key]
        kind = rng.randrange(5)
        if kind == 0:
            del parent[last]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        elif kind == 2:
            other = value
            for key in rng.choice(every)[: rng.randrange(1, 4)]:
                if not isinstance(other, (dict, list)) or (other is not value and rng.random() < 0.2):
                    break
                other = other[key] if key in (other if isinstance(other, dict) else range(len(other))) else other
            parent[last] = copy.deepcopy(other) if len(list(places(value))) < 2000 else None
        elif kind == 3 and isinstance(parent[last], (int, float)) and not isinstance(parent[last], bool):
            parent[last] = rng.choice((str, lambda x: -x, lambda x: [x], lambda x: x * 1e9, lambda x: x + 0.5))(
                parent[last]
            )
        else:
            parent[last] = copy.deepcopy(rng.choice(ODD))
    return value


def deep(rng, opening, closing):
    count = rng.choice((50, 200, 5000, 100_000))
    return opening * count + closing * rng.choice((count, 0))


def twisted_pickle(rng, data):
    """A pickle in which operations are doubled, missing or moved and names are others."""
    try:
        starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    except ValueError:
        return damage(rng, data)
    pieces = [data[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    for _ in range(rng.choice((1, 2, 3, 8))):
        place, kind = rng.randrange(len(pieces)), rng.randrange(6)
        if kind == 0:
            pieces[place] = pieces[rng.randrange(len(pieces))]
        elif kind == 1:
            pieces.insert(place, pieces[rng.randrange(len(pieces))])
        elif kind == 2 and len(pieces) > 1:
            del pieces[place]
        elif kind == 3:
            pieces.insert(place, call(rng))
        elif kind == 4:
            pieces[place] = damage(rng, pieces[place])
        else:
            pieces.insert(
                place, rng.choice((b'0', b'2', b'(', b'R', b'b', b'\x81', b'\x93', b'Q', b'h\0', b'r\0\0\0\0', b'u'))
            )
    return b''.join(pieces)


def call(rng):
    """Operations that name a function, and mostly call it or give it a state."""
    module, _, name = rng.choice(NAMES + ALLOWED).rpartition('.')
    argument = rng.choice((b'X\x0d\0\0\0touch /tmp/xyz', b'K\1', b']', b'}', b'N', b'(K\1K\2K\3t', b'C\3abc', b'h\0'))
    end = rng.choice((b'\x85R', b'\x85R', b'\x85\x81', b'\x86R', b'}\x92', b'b', b'', b')Rb'))
    if rng.random() < 0.5:
        return b'c%s\n%s\n' % (module.encode(), name.encode()) + argument + end
    texts = (b'\x8c' + bytes([len(text)]) + text.encode() for text in (module, name))
    return b''.join(texts) + b'\x93' + argument + end
