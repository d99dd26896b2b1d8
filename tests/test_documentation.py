"""The pages name what there is."""

import re
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
