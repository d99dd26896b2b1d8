"""Peak memory of ``mmdet predict`` on folders of 100 and of 1,000 files of every kind.

    python benchmarks/many_files.py

The files are made: pictures of many formats, depths and channels, turned, animated, cut short, empty, with names in
several scripts; videos; texts that pretend to be pictures; nested folders and links that lead back. Asked of each
folder: a result for all that can be read, and a list of all the rest. The detector is small, with random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import report
from PIL import Image

MODEL = """_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(deepen_factor=0.167, widen_factor=0.125, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
    bbox_head=dict(in_channels=16, feat_channels=16),
    test_cfg=dict(score_thr=0.0, max_per_img=10),
)
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(192, 160), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
RUN = """import sys
import torch
from mmdet.cli.main import main
torch.manual_seed(0)
code = main(sys.argv[1:])
print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))
sys.exit(code)
"""
FRAMES = 3


def noise(rng: np.random.Generator, channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    """Blocks of colour in one of many sizes (h, w, channels)."""
    height, width = rng.integers(40, 500, 2).tolist()
    small = rng.integers(0, np.iinfo(kind).max, (height // 20 + 1, width // 20 + 1, channels), kind)
    return np.ascontiguousarray(np.kron(small, np.ones((20, 20, 1), kind))[:height, :width].squeeze())


def pillow(mode: str, suffix: str, **options) -> tuple[str, Callable]:
    """A picture of a mode of Pillow."""

    def write(path: Path, rng: np.random.Generator) -> None:
        image = Image.fromarray(noise(rng))
        (image.quantize(16) if mode == 'P' else image.convert(mode)).save(path, **options)

    return suffix, write


def deep(suffix: str, channels: int) -> tuple[str, Callable]:
    """16 bits a channel."""
    return suffix, lambda path, rng: encode(path, noise(rng, channels, np.uint16))


def encode(path: Path, array: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())


def animated(suffix: str) -> tuple[str, Callable]:
    def write(path: Path, rng: np.random.Generator) -> None:
        first = Image.fromarray(noise(rng))
        others = [first.rotate(90 * turn) for turn in range(1, FRAMES)]
        first.save(path, save_all=True, append_images=others, duration=100)

    return suffix, write


def turned(path: Path, rng: np.random.Generator) -> None:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(2, 9))
    Image.fromarray(noise(rng)).save(path, exif=exif)


def cut(suffix: str, part: float) -> tuple[str, Callable]:
    """A file that ends too early."""

    def write(path: Path, rng: np.random.Generator) -> None:
        encode(path, noise(rng))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return suffix, write


def video(path: Path, rng: np.random.Generator) -> None:
    writer = cv2.VideoWriter(os.fspath(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (160, 120))
    for _ in range(FRAMES):
        writer.write(cv2.resize(noise(rng), (160, 120)))
    writer.release()


def bomb(path: Path, rng: np.random.Generator) -> None:
    """A PNG of 46 bytes that says it is 100,000 x 100,000."""
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        code = zlib.crc32(name + content)
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', code)

    head = struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IEND', b''))


# By kind: suffix, what writes the file, and how many pictures are in it
READABLE: dict[str, tuple] = {
    'plain': (*pillow('RGB', '.jpg'), 1),
    'grey': (*pillow('L', '.jpg'), 1),
    'cmyk': (*pillow('CMYK', '.jpg'), 1),
    'progressive': (*pillow('RGB', '.jpeg', progressive=True), 1),
    'transparent': (*pillow('RGBA', '.png'), 1),
    'grey and transparent': (*pillow('LA', '.png'), 1),
    'palette': (*pillow('P', '.png'), 1),
    'one bit': (*pillow('1', '.png'), 1),
    '16 bits': (*deep('.png', 3), 1),
    '16 bits grey': (*deep('.png', 1), 1),
    '16 bits tiff': (*deep('.tif', 3), 1),
    '16 bits grey tiff': (*deep('.tiff', 1), 1),
    'cmyk tiff': (*pillow('CMYK', '.tif'), 1),
    'still gif': (*pillow('P', '.gif'), 1),
    'bmp': (*pillow('RGB', '.bmp'), 1),
    'webp': (*pillow('RGBA', '.webp'), 1),
    'ppm': (*pillow('RGB', '.ppm'), 1),
    'animated gif': (*animated('.gif'), 1),
    'animated webp': (*animated('.webp'), 1),
    'animated png': (*animated('.png'), 1),
    'turned': ('.jpg', turned, 1),
    'png in a jpg': ('.jpg', lambda path, rng: path.write_bytes(cv2.imencode('.png', noise(rng))[1].tobytes()), 1),
    'upper case': (*pillow('RGB', '.JPG'), 1),
    'video': ('.avi', video, FRAMES),
}
BROKEN: dict[str, tuple] = {
    'empty': ('.jpg', lambda path, rng: path.write_bytes(b'')),
    'text': ('.jpg', lambda path, rng: path.write_text('this is no picture')),
    'cut jpg': cut('.jpg', 0.5),
    'cut png': cut('.png', 0.5),
    'cut webp': cut('.webp', 0.5),
    'head alone': cut('.jpg', 0.02),
    'rubbish': ('.png', lambda path, rng: path.write_bytes(rng.bytes(500))),
    'bomb': ('.png', bomb),
    'no video': ('.mp4', lambda path, rng: path.write_bytes(rng.bytes(500))),
    'link to nothing': ('.png', lambda path, rng: path.symlink_to('nowhere.png')),
}
OTHERS: dict[str, tuple] = {
    'table': ('.csv', lambda path, rng: path.write_text('a,b\n1,2\n')),
    'readme': ('.md', lambda path, rng: path.write_text('# Pictures')),
}
NAMES = (
    'plain',
    'Über Größe',
    '図 1',
    'صورة',
    '🦊',
    'with spaces',
    'quo\'te"s',
    '%41;&',
    '[1]',
    '-flag',
    'line\nbreak',
)


def make_folder(root: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Write ``count`` files of all kinds in turn; returns how many pictures can be read and the files that cannot."""
    rng = np.random.default_rng(seed)
    kinds = {**READABLE, **BROKEN, **OTHERS}
    pictures, broken = 0, []
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        suffix, write, *rest = kinds[kind]
        folder = root / ('' if number % 3 else f'inner {number % 7}') / ('deeper' if number % 5 == 0 else '')
        folder.mkdir(parents=True, exist_ok=True)
        name = f'{number:04} {NAMES[number % len(NAMES)]}{suffix}'
        if kind == 'plain' and number % 4 == 0 and sys.platform == 'linux':
            name = os.fsdecode(b'\xff\xfe' + name.encode())  # bytes that are no UTF-8
        path = folder / name
        write(path, rng)
        if kind in READABLE:
            pictures += rest[0]
        elif kind in BROKEN:
            broken.append(os.fspath(path))
    (root / 'inner 0' / 'loop').symlink_to(root, target_is_directory=True)
    return pictures, broken


def predict(source: Path, work: Path, options: list[str]) -> tuple[int, list[str], int, float]:
    """Pictures with a result, files that were skipped, peak memory in KiB and seconds of ``mmdet predict``."""
    config, out = work / 'tiny.py', work / f'out {source.name}'
    config.write_text(MODEL)
    command = ['predict', str(source), '--model', str(config), '--scratch', '--device', 'cpu', '--out', str(out)]
    command += ['--threshold', '0.001']  # random weights are sure of nothing; so there is something to keep and draw
    start = time.perf_counter()
    environment = os.environ | dict(PYTHONIOENCODING='utf-8')
    done = subprocess.run([sys.executable, '-c', RUN, *command, *options], capture_output=True, env=environment)
    seconds = time.perf_counter() - start
    shown, told = (os.fsdecode(text) for text in (done.stdout, done.stderr))
    if done.returncode:
        raise SystemExit(f'mmdet predict ended with {done.returncode}:\n{shown[-2000:]}\n{told[-4000:]}')
    found = [json.loads(line) for line in (out / 'predictions.json').read_text(encoding='utf-8').splitlines()]
    skipped = [line.removeprefix('skipped: ') for line in told.splitlines() if line.startswith('skipped: ')]
    if not any(len(result['boxes']) for result in found):
        raise SystemExit('nothing is detected, so nothing is kept and drawn')
    if '--no-pictures' not in options:
        drawn = sum(path.is_file() for path in (out / 'pictures').rglob('*'))
        if drawn != len(found):
            raise SystemExit(f'{len(found)} pictures have results, {drawn} are drawn')
    return len(found), skipped, int(shown.rpartition('VmHWM:')[2].split()[0]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--counts', type=int, nargs=2, default=(100, 1000), help='files of the two folders')
    parser.add_argument('--options', nargs=argparse.REMAINDER, default=[], help='more options of mmdet predict')
    parser.add_argument('--out', help='a JSON file for the results')
    args = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for count in args.counts:
            folder = work / f'{count} files'
            pictures, broken = make_folder(folder, count)
            found, skipped, peak, seconds = predict(folder, work, args.options)
            if found != pictures or len(skipped) != len(broken):
                raise SystemExit(
                    f'{pictures} pictures can be read and {found} have results; {len(broken)} files cannot be read and '
                    f'{len(skipped)} are listed:\n' + '\n'.join(skipped)
                )
            peaks.append(peak)
            print(f'{count} files: {found} results, {len(skipped)} skipped, {peak / 1024:.0f} MiB, {seconds:.0f} s')
    print(f'peak memory: {peaks[1] / peaks[0]:.3f} times')
    rows = [
        report.row(f'predict: peak of {count} files', peak / 1024, 'MiB') for count, peak in zip(args.counts, peaks)
    ]
    report.save(args.out, rows, times=peaks[1] / peaks[0])


if __name__ == '__main__':
    main()
