"""Rules about the text of the source that no linter knows."""

from collections import defaultdict
from pathlib import Path

import pytest

import mmdet

HEADS = Path(mmdet.__file__).parent / 'models' / 'dense_heads'
WINDOW = 10


def code_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    return [line for line in lines if line and not line.startswith(('#', 'import ', 'from '))]


def shared_windows(folder: Path) -> list[str]:
    """Places where ten lines of code in a row stand in two files of ``folder``."""
    seen: dict[tuple, set[str]] = defaultdict(set)
    for path in folder.glob('*.py'):
        lines = code_lines(path)
        for start in range(len(lines) - WINDOW + 1):
            seen[tuple(lines[start : start + WINDOW])].add(path.name)
    return [f'{sorted(files)}: {lines[0]}' for lines, files in seen.items() if len(files) > 1]


def test_no_two_dense_heads_share_ten_lines():
    assert shared_windows(HEADS) == []


@pytest.mark.parametrize('common, found', [(WINDOW, True), (WINDOW - 1, False)])
def test_shared_lines_are_found(tmp_path, common, found):
    body = [f'value_{i} = {i}' for i in range(common)]
    (tmp_path / 'a.py').write_text('\n'.join(['import torch', *body, 'a = 1']))
    (tmp_path / 'b.py').write_text('\n'.join(['b = 2', '', *body]))
    assert bool(shared_windows(tmp_path)) is found
