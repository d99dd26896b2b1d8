"""Each promise of the pages on trust is held by a test, which exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / 'docs' / 'trust').glob('*.md'))
NAME = re.compile(r'`((?:tests/[\w/.-]+\.py)?)::(\w+)`')


@cache
def names_in(path: str) -> set[str]:
    """The names of the test functions of a file."""
    found = ast.walk(ast.parse((ROOT / path).read_text(encoding='utf-8')))
    return {node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')}


def named(text: str) -> list[tuple[str, str]]:
    """Paths and names of tests in a text; one without a path is of the path before it."""
    found, path = [], ''
    for own, name in NAME.findall(text):
        path = own or path
        found.append((path, name))
    return found


def missing(text: str) -> list[str]:
    """The named tests that do not exist."""
    pairs = named(text)
    return [f'{path}::{name}' for path, name in pairs if not (ROOT / path).is_file() or name not in names_in(path)]


def promises(text: str) -> list[str]:
    """The bullets of the part on what is promised."""
    part = re.search(r'^## What is promised$(.*?)(?=^## |\Z)', text, re.DOTALL | re.MULTILINE)
    return re.findall(r'^ *\* (.*?)(?=^ *\* |^$|\Z)', part[1], re.DOTALL | re.MULTILINE) if part else []


def without_test(text: str) -> list[str]:
    """The promises that name no test."""
    return [promise for promise in promises(text) if not named(promise)]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.stem)
def test_every_promise_is_held_by_a_test_that_exists(page):
    text = page.read_text(encoding='utf-8')
    assert page.stem == 'README' or len(promises(text)) > 5
    assert not without_test(text)
    assert not missing(text)
    files = re.findall(r'`(tests/[^`:]*)', text)
    assert not [file for file in files if not (ROOT / file).exists()]


def test_what_is_missing_is_seen():
    here = 'tests/test_trust_pages.py'
    good = f'* one\n  `{here}::test_what_is_missing_is_seen`, `::test_every_promise_is_held_by_a_test_that_exists`\n'
    page = f'## What is promised\n\n{good}* two\n* `{here}::test_three`\n\n## What is not promised\n\n* four\n'
    assert without_test(page) == ['two\n']
    assert missing(page) == [f'{here}::test_three'] and not missing(good)
    assert missing('`tests/none.py::test_a`') == ['tests/none.py::test_a']
