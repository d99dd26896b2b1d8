"""What a disk does to a checkpoint is found when it is read, or changes nothing."""

import os
import random
import zipfile

import pytest
import torch

from mmdet.utils.checkpoint import UnreadableCheckpointError, read_file, save_checkpoint
from mmdet.utils.resumable import newest_readable

SECTOR = 512
FLIPS, SECTORS = int(os.environ.get('MMDET_FLIPS', '200')), int(os.environ.get('MMDET_SECTORS', '50'))


def state(seed=0, size=30):
    generator = torch.Generator().manual_seed(seed)
    weights = {f'layer{i}.weight': torch.randn(size, size + i, generator=generator) for i in range(12)}
    return dict(
        meta=dict(epoch=seed, iter=8 * seed, seed=7, cfg='model = dict()\n' * 20),
        state_dict=weights,
        optimizer=dict(state={i: dict(momentum_buffer=value) for i, value in enumerate(weights.values())}),
        message_hub=dict(log_scalars={}, runtime_info=dict(best_score=0.5), resumed_keys={}),
    )


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A folder with two checkpoints, and the bytes of the second."""
    folder = tmp_path_factory.mktemp('run')
    for epoch in (1, 2):
        path = folder / f'epoch_{epoch}.pth'
        save_checkpoint(state(epoch), path, label=dict(run_id='0123456789abcdef', iter=8 * epoch))
    (folder / 'last_checkpoint').write_text(path.name)
    return folder, path.read_bytes()


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


def verdict(run, content):
    """'found' or 'harmless' for a content of the newest checkpoint, which is resumed accordingly."""
    folder, _ = run
    path = folder / 'epoch_2.pth'
    path.write_bytes(content)
    try:
        read = read_file(path)
    except UnreadableCheckpointError as error:
        assert 'epoch_2.pth' in str(error) and len(str(error)) < 1000
        found, checkpoint, notes = newest_readable(folder)
        assert found.name == 'epoch_1.pth' and checkpoint['meta']['epoch'] == 1
        assert notes[0].startswith('epoch_2.pth was not resumed')
        return 'found'
    assert equal(read, state(2)), 'silently other content'
    return 'harmless'


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_single_bits(run):
    draw = random.Random(int(os.environ.get('MMDET_SEED', '1')))
    counts = {'found': 0, 'harmless': 0}
    for _ in range(FLIPS):
        counts[verdict(run, flipped(run[1], draw.randrange(8 * len(run[1]))))] += 1
    assert counts['found'] > counts['harmless'] or FLIPS < 10


def test_zeroed_sectors(run):
    draw = random.Random(int(os.environ.get('MMDET_SEED', '1')))
    count = -(-len(run[1]) // SECTOR)
    for sector in draw.sample(range(count), min(SECTORS, count)):
        start = sector * SECTOR
        damaged = run[1][:start] + bytes(len(run[1][start : start + SECTOR])) + run[1][start + SECTOR :]
        verdict(run, damaged)


def structure(content, path):
    """The offsets of all bytes that are no tensor: headers, names, the pickle and the directory at the end."""
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        offsets = set(range(archive.start_dir, len(content)))
        for info in archive.infolist():
            names = info.header_offset + 30 + len(info.filename)
            offsets.update(range(info.header_offset, names + 4))
            data = names + int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], 'little')
            if '/data/' not in info.filename:
                offsets.update(range(data, data + info.file_size))
    return sorted(offsets)


def test_the_structure_of_the_file(run):
    """Where no checksum reaches: headers, names, sizes and places of records, the directory, the end of the file."""
    offsets = structure(run[1], run[0] / 'epoch_2.pth')
    draw = random.Random(2)
    for offset in draw.sample(offsets, min(3 * FLIPS, len(offsets))):
        verdict(run, flipped(run[1], 8 * offset + draw.randrange(8)))


@pytest.mark.parametrize('more', [b'\0', b'PK\5\6', b'garbage' * 100, bytes(SECTOR), bytes(70000)], ids=len)
def test_bytes_after_the_end(more, run):
    verdict(run, run[1] + more)


def test_every_length_of_a_cut_file_is_found(run):
    draw = random.Random(3)
    for length in [0, 1, 4, 30, len(run[1]) - 1, *draw.sample(range(len(run[1])), 10)]:
        assert verdict(run, run[1][:length]) == 'found'


def test_a_file_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state(1), tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert equal(read_file(tmp_path / 'a.pth'), state(1))
