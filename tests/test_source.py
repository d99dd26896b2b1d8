"""Rules about the text of the source that no linter knows."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

import mmdet

ROOT = Path(mmdet.__file__).parent
FOLDERS = [ROOT, *(folder for name in ('benchmarks', 'tests', 'tools') if (folder := ROOT.parent / name).is_dir())]
FILES = [path for folder in FOLDERS for path in sorted(folder.rglob('*.py')) if '.mim' not in path.parts]
WINDOW = 7  # as long was the method that six backbones had each
LONGEST_FILE = 600
PUNCTUATION = re.compile(r'\W+')
TABLE_ROW = re.compile(r"'[^']*': '[^']*',")


def code_lines(path: Path) -> list[str]:
    """The lines that say what is done: no imports, comments, lone punctuation, rows of names, argument lists.

    Arguments and their defaults are interface: what 3.x gives several classes alike stands in each of them.
    """
    text = path.read_text(encoding='utf-8')
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out |= set(range(node.lineno, node.body[0].lineno))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out]
    return [
        line
        for line in lines
        if not (line.startswith('#') or PUNCTUATION.fullmatch(line) or TABLE_ROW.fullmatch(line)) and line
    ]


def shared_windows(paths: Iterable[Path]) -> list[str]:
    """Places where ``WINDOW`` lines of code in a row stand in two files."""
    seen: dict[tuple, set[str]] = defaultdict(set)
    for path in paths:
        lines = code_lines(path)
        for start in range(len(lines) - WINDOW + 1):
            seen[tuple(lines[start : start + WINDOW])].add(str(path))
    return [f'{sorted(files)}: {lines[0]}' for lines, files in seen.items() if len(files) > 1]


def test_no_two_files_share_their_code():
    assert shared_windows(FILES) == []


def test_no_two_files_of_tests_have_one_name():
    names = Counter(path.name for path in FILES if path.name.startswith('test_') and 'tests' in path.parts)
    assert [name for name, count in names.items() if count > 1] == []  # by which pytest imports them


def test_no_file_is_long():
    lengths = {path: len(path.read_text(encoding='utf-8').splitlines()) for path in FILES}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize('common, found', [(WINDOW, True), (WINDOW - 1, False)])
def test_shared_lines_are_found(tmp_path, common, found):
    body = [f'value_{i} = {i}' for i in range(common)]
    first, second = tmp_path / 'heads' / 'a.py', tmp_path / 'heads' / 'masks' / 'b.py'
    second.parent.mkdir(parents=True)
    first.write_text('\n'.join(['import torch', *body, 'a = 1']))
    second.write_text('\n'.join(['b = 2', '', *body[:3], '# a comment', *body[3:]]))
    assert bool(shared_windows([first, second])) is found


def test_the_rule_covers_every_package():
    covered = {path.parent.relative_to(ROOT).as_posix() for path in FILES if path.is_relative_to(ROOT)}
    assert {'models/detectors', 'models/roi_heads/mask_heads', 'models/layers', 'models/backbones'} <= covered


def test_argument_lists_and_rows_of_names_are_no_code(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text("TABLE = {\n    'a': 'b',\n}\n\n\ndef f(\n    x: int = 1,\n) -> int:\n    return x\n")
    assert code_lines(path) == ['TABLE = {', 'return x']


@pytest.mark.parametrize('path', sorted(Path(mmdet.__file__).parent.rglob('*.py')), ids=str)
def test_mistakes_of_users_are_user_errors(path):
    """A bare ValueError would end in a traceback, and pass by callers that catch what MMDetection 3.x raises."""
    bare = {'ValueError', 'TypeError', 'KeyError', 'FileNotFoundError'}
    raised = [node.exc for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) if isinstance(node, ast.Raise)]
    names = [ast.unparse(exc.func if isinstance(exc, ast.Call) else exc) for exc in raised if exc is not None]
    assert not bare & set(names), f'{path} raises one of {sorted(bare)}; mmdet.errors has the class for users'


SCRIPTS = [path for path in sorted(ROOT.parent.glob('tools/**/*.py')) + sorted(ROOT.parent.glob('demo/*.py'))]


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_scripts_take_the_package_beside_them(path):
    """And not another one that is installed: its folder is put first before anything of it is imported."""
    text = path.read_text(encoding='utf-8')
    imports = [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'mmdet'
    ]
    places = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith('sys.path.insert(0, ')]
    assert not imports or (places[:1] and places[0] < min(imports))
