"""The readers of files give a result or one sentence, and the fuzzer sees it when they do not."""

import os
import time
from pathlib import Path

import fuzz
import inputs
import pytest

COUNTS = dict(checkpoint=100, stored=100, coco=30, voc=30, config=30, picture=200, http=40)


@pytest.mark.parametrize('name', COUNTS)
def test_a_result_or_a_sentence(name):
    """``MMDET_SEED`` asks for other inputs, ``MMDET_FUZZ`` for so many times as many."""
    count = COUNTS[name] * int(os.environ.get('MMDET_FUZZ', '1'))
    counts, findings = fuzz.fuzz(name, int(os.environ.get('MMDET_SEED', '0')), count, seconds=600)
    assert not findings
    assert counts['result'] and counts['sentence'] and sum(counts.values()) == count


class Bad(inputs.Kind):
    """A reader that breaks its promise in one of the ways below."""

    way = None

    def warm_up(self):
        pass

    def write(self, rng):
        return self.way

    def read(self, way):
        way(self.folder)


def loop(folder):
    while True:
        pass


WAYS = {
    'os.system': lambda folder: os.system('true'),
    'for writing': lambda folder: Path(folder, '../../x').open('w').close(),
    'os.remove': lambda folder: os.remove(Path(folder, '../../victim/none')),
    "code of '<string>'": lambda folder: exec('1'),
    'fuzz_canary': lambda folder: __import__('fuzz_canary'),
    'socket.connect': lambda folder: __import__('socket').create_connection(('127.0.0.1', 9)),
    'pickle.find_class': lambda folder: __import__('pickle').loads(b'cbuiltins\nlen\n.'),
    'KeyError': lambda folder: {}['a'],
    'ZeroDivisionError': lambda folder: 1 / 0,
    'no sentence': lambda folder: (_ for _ in ()).throw(fuzz.UserError('')),
    'TooSlow': loop,
    'of memory': lambda folder: bytearray(b'x') * (700 << 20),
    'ended with': lambda folder: os._exit(3),
}


def test_each_broken_promise_is_seen(monkeypatch):
    monkeypatch.setitem(inputs.KINDS, 'bad', Bad)
    monkeypatch.setattr(fuzz, 'SECONDS', 0.3)
    for words, way in WAYS.items():
        monkeypatch.setattr(Bad, 'way', staticmethod(way))
        _, findings = fuzz.fuzz('bad', count=1, seconds=60)
        assert list(findings) == [0] and words in findings[0], words


def test_an_input_is_a_function_of_its_number(tmp_path):
    from random import Random

    made = []
    for folder in ('a', 'b'):
        kind = inputs.KINDS['checkpoint'](tmp_path / folder)
        made.append([kind.write(Random(f'checkpoint/0/{number}')).read_bytes() for number in range(20)])
    assert made[0] == made[1] and len(set(made[0])) == 20


def test_time_is_bounded():
    begin = time.monotonic()
    fuzz.fuzz('stored', seconds=0.1)
    assert time.monotonic() - begin < 60
