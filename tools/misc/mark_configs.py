"""Write into the README of each folder of configs which of them need classes that are not yet in this package."""

import argparse
import functools
import os
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))

START = '> **Not yet in this package:**'
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def absent_names(value) -> set[str]:
    """Names under ``type`` anywhere in a config that MMDetection 3.x registers and this package does not."""
    if isinstance(value, dict):
        name = value.get('type')
        own = {name.removeprefix('mmdet.')} if isinstance(name, str) and _is_absent(name) else set()
        return own.union(*map(absent_names, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(absent_names, value))
    return set()


@functools.cache
def _is_absent(name: str) -> bool:
    from mmdet.registry import is_absent

    return is_absent(name)


def notice(absent: dict[str, set[str]]) -> str:
    """The lines of a README for a folder's configs, or an empty text where all of them can be built.

    Args:
        absent: Path of each config below the folder -> the names that it needs and that are not there.
    """
    marked = {path: names for path, names in absent.items() if names}
    if not marked:
        return ''
    names = ', '.join(f'`{name}`' for name in sorted(set().union(*marked.values())))
    if len(marked) == len(absent):
        text = f'{START} all configs of this folder need {names}.'
    else:
        links = ', '.join(f'[{Path(path).stem}]({path})' for path in sorted(marked))
        text = f'{START} {names}, needed by {links}.'
    lines = textwrap.wrap(text, 118, subsequent_indent='> ', break_long_words=False, break_on_hyphens=False)
    return '\n'.join(lines) + '\n\n'


def with_notice(readme: str, text: str) -> str:
    """The README with this notice in place of an older one; it stands before the first section."""
    before, heading, rest = readme.partition('## ')
    paragraphs = [part for part in before.split('\n\n') if not part.startswith(START)]
    return '\n\n'.join(paragraphs) + text + heading + rest


def absent_by_folder(configs: Path = CONFIGS) -> dict[str, dict[str, set[str]]]:
    """Folder -> config below it -> absent names, for all folders that have a README and configs with a model."""
    from mmengine.config import Config

    found: dict[str, dict[str, set[str]]] = {}
    for folder in sorted(path.parent for path in configs.glob('*/README.md')):
        values = {path.relative_to(folder).as_posix(): Config.fromfile(path) for path in sorted(folder.rglob('*.py'))}
        found[folder.name] = {
            path: absent_names(cfg._cfg_dict.to_dict()) for path, cfg in values.items() if 'model' in cfg
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='change nothing; exit with 1 where a README is out of date'
    )
    args = parser.parse_args()
    stale = 0
    for folder, absent in absent_by_folder().items():
        path = CONFIGS / folder / 'README.md'
        old = path.read_text(encoding='utf-8')
        new = with_notice(old, notice(absent))
        if new != old:
            stale += 1
            print(path)
            if not args.check:
                path.write_text(new, encoding='utf-8')
    return int(args.check and stale > 0)


if __name__ == '__main__':
    sys.exit(main())
