"""Unpack GRIT, as img2dataset downloads it, so that grit2odvg.py can read it.

    python tools/dataset_converters/grit_processing.py data/grit_raw data/grit_processed
    python tools/dataset_converters/grit2odvg.py data/grit_processed

reads the parts data/grit_raw/*.tar and writes of each picture that was downloaded images/PART/KEY.jpg and
annotations/PART/KEY.json below data/grit_processed. What is there already stays, so that it can be started again. Where
a part has a file PART_stats.json, its number of pictures is compared. The exit status is 1 if a part could not be read
to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.errors import UserFileError

PICTURES = '.jpg', '.jpeg'


def write(path: Path, content: bytes) -> None:
    """Write a file whole, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        temporary.write_bytes(content)
        os.replace(temporary, path)


def unpack(part: Path, output: Path) -> int:
    """Write the pictures of one part that have both a JPEG and a note of success; returns how many these are.

    Members are read by their last name alone, so that no archive can write elsewhere.
    """
    pictures: dict[str, bytes] = {}
    notes: dict[str, bytes] = {}
    count = 0
    with tarfile.open(part) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            kept = pictures if name.suffix in PICTURES else notes if name.suffix == '.json' else None
            file = archive.extractfile(member) if kept is not None and member.isfile() else None
            if kept is None or file is None:
                continue
            kept[name.stem] = file.read()
            if name.stem in pictures and name.stem in notes:
                picture, note = pictures.pop(name.stem), notes.pop(name.stem)
                if json.loads(note).get('status', 'success') == 'success':
                    write(output / 'images' / part.stem / f'{name.stem}.jpg', picture)
                    write(output / 'annotations' / part.stem / f'{name.stem}.json', note)
                    count += 1
    return count


def report(part: Path, output: Path) -> tuple[bool, str]:
    """Unpack a part; whether that went well, and a sentence about it."""
    try:
        count = unpack(part, output)
    except (tarfile.TarError, OSError, EOFError, ValueError, AttributeError) as error:
        return False, f'{part}: cannot be read to its end: {type(error).__name__}: {error}'
    stats = part.with_name(f'{part.stem}_stats.json')
    told = json.loads(stats.read_text()).get('successes') if stats.is_file() else None
    fewer = f', of {told} that {stats.name} tells of' if told is not None and told != count else ''
    return not fewer, f'{part}: {count} pictures{fewer}'


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('image_dir', type=Path, help='folder with the parts, *.tar')
    parser.add_argument('output_dir', type=Path, help='folder to write')
    parser.add_argument('--num-process', type=int, default=10, help='parts to unpack at a time (10)')
    parser.add_argument('--log-name', type=Path, help='file to which what is printed is added, too')
    args = parser.parse_args(argv)
    if not args.image_dir.is_dir():
        raise UserFileError(f'there is no folder {args.image_dir}')
    parts = sorted(args.image_dir.glob('*.tar'))
    if not parts:
        raise UserFileError(f'{args.image_dir} has no part of GRIT, *.tar, as img2dataset writes them with webdataset')
    good = True
    with ThreadPoolExecutor(max(args.num_process, 1)) as pool:
        for well, sentence in pool.map(lambda part: report(part, args.output_dir), parts):
            good &= well
            print(sentence, flush=True)
            if args.log_name is not None:
                with args.log_name.open('a') as log:
                    log.write(f'{sentence}\n')
    return 0 if good else 1


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
