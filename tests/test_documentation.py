"""The pages name what there is."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

import mmdet

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mmdet.__file__).parent
TOP = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md')
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / 'docs').rglob('*.md'))]


def rooms(folder: Path) -> set[str]:
    """Packages and modules of a folder, without a leading underscore."""
    found = {path.parent.name for path in folder.glob('*/__init__.py')} | {path.stem for path in folder.glob('*.py')}
    return {name for name in found if not name.startswith(('_', '.'))}


def words(text: str) -> set[str]:
    return set(re.findall(r'\w+', text))


def test_the_drawing_has_every_room():
    drawn = words(' '.join(ElementTree.parse(ROOT / 'docs' / 'architecture.svg').getroot().itertext()))
    assert rooms(PACKAGE) - {'version'} <= drawn
    assert rooms(PACKAGE / 'models') - {'builder'} <= drawn


def test_the_page_has_every_room():
    page = words((ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8'))
    assert rooms(PACKAGE) - {'version', 'installation', 'lazy'} <= page


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#\s]+)', page.read_text(encoding='utf-8'))
    assert not [link for link in links if '://' not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_modules_that_pages_name_exist(page):
    text = page.read_text(encoding='utf-8')
    files = re.findall(r'`((?:mmdet|tools|benchmarks|tests|configs|docs|demo)/[\w./-]+\.(?:py|sh|md))\b', text)
    assert not [name for name in files if not (ROOT / name).exists()]
    modules = re.findall(r':?\bmmdet((?:\.[a-z_0-9]+)+)\b', text)
    parts = [module.strip('.').split('.') for module in modules]
    assert not [part for part in parts if not room_exists(part)]


def room_exists(parts: list[str]) -> bool:
    """Whether ``mmdet.a.b`` is a package, a module, or a name of one."""
    from importlib import import_module

    for count in range(len(parts), -1, -1):
        try:
            module = import_module('.'.join(['mmdet', *parts[:count]]))
        except ImportError:
            continue
        return count == len(parts) or (count == len(parts) - 1 and hasattr(module, parts[-1]))
    return False


# --------------------------------------------------------------------------------------------------------------------
# Blocks
def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the shell blocks of a page, without comments, redirections and settings."""
    found = []
    for block in blocks(page, 'shell'):
        for line in block.replace('\\\n', ' ').splitlines():
            for part in re.split(r'&&|\||;', re.sub(r'\s[12]?>.*', '', line)):
                given = shlex.split(part, comments=True)
                while given and re.fullmatch(r'\w+=\S*', given[0]):
                    given.pop(0)
                if given:
                    found.append(given)
    return found


class Parsed(Exception):
    """The arguments of a program were taken."""


def parse(given: list[str], monkeypatch) -> None:
    """Let a program of ours parse its arguments, and go no further."""
    own = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        own(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    with pytest.raises(Parsed):
        if given[0] == 'mmdet':
            from mmdet.cli.main import main

            main(given[1:])
        else:
            monkeypatch.setattr(sys, 'argv', given)
            monkeypatch.setattr(sys, 'path', [str((ROOT / given[0]).parent), *sys.path])
            runpy.run_path(str(ROOT / given[0]), run_name='__main__')


PARSED = [
    pytest.param(given, id=f'{page.name}-{number}-{Path(given[0]).stem}')
    for page in PAGES
    for number, given in enumerate(
        given[1:] if given[0].startswith('python') else given
        for given in commands(page)
        if given[0] == 'mmdet' or (given[0].startswith('python') and given[1].endswith('.py'))
    )
    if given[1:] not in (['--help'], [])
]


@pytest.mark.parametrize('given', PARSED)
def test_programs_take_the_arguments_of_the_pages(given, monkeypatch, capsys):
    numbers = {'$PORT': '29500', '$GPUS': '2'}
    parse([numbers.get(word, word) for word in given], monkeypatch)


OURS = re.compile(r'(tools|demo|benchmarks|requirements|\.ci)/[\w./-]+')


def test_other_commands_of_the_pages_exist():
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    faults = []
    for page in PAGES:
        for given in commands(page):
            files = [word for word in given if OURS.fullmatch(word)]
            faults += [f'{page.name}: {word}' for word in files if not (ROOT / word).exists()]
            if given[0] == 'make':
                wanted = [word for word in given[1:] if '=' not in word and not word.startswith('-')]
                faults += [f'{page.name}: make {word}' for word in wanted if word not in targets]
    assert not faults


@pytest.mark.parametrize(
    'page', [page for page in PAGES if blocks(page, 'python')], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_python_of_the_pages_names_what_there_is(page):
    for block in blocks(page, 'python'):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition('.')[0] == 'mmdet':
                module = import_module(node.module)
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_reference_has_every_package():
    text = ''.join(path.read_text(encoding='utf-8') for path in (ROOT / 'docs' / 'api').glob('*.md'))
    named = set(re.findall(r'automodule:: ([\w.]+)', text))
    listed = {name for module in named for name in getattr(import_module(module), '__all__', ())}
    for init in PACKAGE.rglob('__init__.py'):
        module = '.'.join(['mmdet', *init.parent.relative_to(PACKAGE).parts])
        if module in (*named, 'mmdet', 'mmdet.models', 'mmdet.models.utils') or 'attach(' not in init.read_text():
            continue
        assert set(import_module(module).__all__) <= listed, f'{module} is in no page of docs/api'
