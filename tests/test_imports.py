"""The order of the packages, the completeness of their tables, and what an import costs."""

import ast
import functools
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmdet
from mmdet import registry

ROOT = Path(mmdet.__file__).parent

# What a package may import of ours, besides itself. The row with the longest prefix of a module's name decides; the
# packages and modules of a folder in SPLIT have one row each, so that a new one fails until it is drawn here.
SPLIT = ('', 'models')
GROUND = {'lazy', 'names_3x', 'old_paths', 'version', 'installation', 'errors', 'python_repairs'}
BELOW_MODELS = GROUND | {'registry', 'utils', 'structures', 'ops'}
# From the lowest up: each sees those before it
BRICKS = ['models.core', 'models.losses', 'models.task_modules', 'models.layers']
PARTS = ['models.backbones', 'models.necks', 'models.language_models', 'models.seg_heads', 'models.dense_heads']
ARROWS = {
    'errors': set(),
    'names_3x': {'errors'},
    'lazy': {'names_3x'},
    'old_paths': {'lazy'},
    'version': set(),
    'installation': set(),
    'python_repairs': set(),
    'registry': GROUND,
    'utils': GROUND | {'registry'},
    'structures': GROUND | {'registry', 'utils'},
    'ops': GROUND | {'registry', 'utils', 'structures'},
    # a table of its packages
    'models': GROUND,
    # names of 2.x for the registry
    'models.builder': GROUND | {'registry'},
    # tensors alone: neither registry nor config
    'models.core': BELOW_MODELS - {'registry'},
    **{brick: BELOW_MODELS | set(BRICKS[:i]) for i, brick in enumerate(BRICKS) if i > 0},
    **{part: BELOW_MODELS | {*BRICKS, *PARTS[:i]} for i, part in enumerate(PARTS)},
    'models.roi_heads': BELOW_MODELS | {*BRICKS, *PARTS},
    'models.data_preprocessors': BELOW_MODELS | {'models.core'},
    'models.detectors': BELOW_MODELS | {*BRICKS, *PARTS, 'models.roi_heads', 'models.data_preprocessors'},
    'models.test_time_augs': BELOW_MODELS | {*BRICKS, 'models.detectors'},
    # names for code outside, which nothing of ours imports
    'models.utils': BELOW_MODELS | set(BRICKS),
    # annotation files, for data sets, evaluation and checks alike
    'datasets.reading': GROUND | {'structures'},
    'datasets.api_wrappers': GROUND | {'structures', 'datasets.reading'},
    # data sets as objects with attributes, which hooks and metrics look through
    'datasets.walk': GROUND | {'registry'},
    'datasets': GROUND | {'registry', 'utils', 'structures'},
    'evaluation': GROUND
    | {'registry', 'utils', 'structures', 'datasets.reading', 'datasets.api_wrappers', 'datasets.walk'},
    # builds metrics by their names and knows none
    'evaluation.evaluator': GROUND | {'registry'},
    'visualization': GROUND | {'registry', 'utils', 'structures', 'datasets.walk'},
    'config': GROUND | {'registry'},
    # neither builds a model nor trains: what starts a run calls it
    'checks': GROUND | {'registry', 'utils', 'structures', 'config', 'datasets'},
    'engine': GROUND | {'registry', 'utils', 'structures', 'config', 'datasets.walk', 'evaluation.evaluator'},
    # draws what a run predicts
    'engine.hooks.visualization_hook': GROUND | {'registry', 'visualization'},
    # the one room that decides how a model is computed
    'engine.acceleration': GROUND | {'ops.winograd', 'engine.compilation'},
    # inputs for tests of code that builds on the package
    'testing': GROUND | {'registry', 'utils', 'structures'},
    # files for other runtimes
    'export': BELOW_MODELS | {'models.core', 'models.detectors', 'config', 'engine'},
    # what users and scripts start
    'zoo': GROUND | {'utils', 'config'},
    'apis': {''},
    'cli': {''},
    '__main__': {'cli'},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob('*.py')) if '.mim' not in path.parts}
MODULES = [name for name in SOURCES if name != 'mmdet']


@functools.cache
def imports_of(name: str) -> list[tuple[str, str]]:
    """``(module, name)`` of what a module imports anywhere in its text, type checking blocks excepted.

    The name is empty for ``import module``.
    """
    tree = ast.parse(SOURCES[name].read_text(encoding='utf-8'))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, '') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name if SOURCES[name].name == '__init__.py' else name.rpartition('.')[0]
            base = importlib.util.resolve_name('.' * node.level + (node.module or ''), package)
            found += [(base, alias.name) for alias in node.names]
    return found


def imported_modules(name: str) -> set[str]:
    """Modules that ``name`` imports, as they stand in its text."""
    return {f'{module}.{n}' if f'{module}.{n}' in SOURCES else module for module, n in imports_of(name)}


def within(module: str, package: str) -> bool:
    return package == '' or module == package or module.startswith(package + '.')


def row_of(module: str) -> str | None:
    """The row of ARROWS that decides for ``module``."""
    row = max((package for package in ARROWS if within(module, package)), key=len, default=None)
    return None if row in SPLIT and row != module else row


@pytest.mark.parametrize('name', MODULES)
def test_arrows(name):
    inner = name.removeprefix('mmdet.')
    package = row_of(inner)
    assert package is not None, f'{name} belongs to no package of the table ARROWS'
    allowed = ARROWS[package] | {package}
    ours = {module.removeprefix('mmdet.') for module in imported_modules(name) if module.startswith('mmdet.')}
    wrong = sorted(module for module in ours if not any(within(module, place) for place in allowed))
    assert not wrong, f'{name} must not import {wrong}: {package} sees only {sorted(allowed)}'


@pytest.mark.parametrize(
    'module, row',
    [
        ('models', 'models'),
        ('models.utils.misc', 'models.utils'),
        ('engine.acceleration', 'engine.acceleration'),
        ('models.layers.transformer.detr_layers', 'models.layers'),
        ('models.trackers', None),
        ('models.trackers.base', None),
        ('models.losses_of_mine', None),
        ('plugins', None),
        ('plugins.base', None),
    ],
)
def test_a_package_that_no_row_names_fails(module, row):
    assert row_of(module) == row


def test_rows_of_packages_point_downwards():
    """No two rows of different packages may see each other, through others neither."""
    seen = {package: {other for other in ARROWS if row_of(other) in sees} for package, sees in ARROWS.items()}
    below: dict[str, set[str]] = {}
    while len(below) < len(seen):
        free = [package for package in seen if package not in below and seen[package] <= {*below, package}]
        assert free, f'these see each other: {sorted(set(seen) - set(below))}'
        below |= {package: seen[package] for package in free}


def modules_behind(module: str, name: str) -> set[str]:
    """The modules that ``from module import name`` loads: a lazy package hands out what its submodules define."""
    if f'{module}.{name}' in SOURCES:
        return {f'{module}.{name}'}
    table = table_of(module) if module in SOURCES else {}
    found = {f'{module}.{submodule}' for submodule, names in table.items() if name in names}
    nested = [f'{module}.{submodule}' for submodule, names in table.items() if not names]
    return found or {behind for package in nested for behind in modules_behind(package, name) - {package}} or {module}


def import_graph() -> dict[str, set[str]]:
    """Module -> our modules that it imports, at its top or inside a function."""
    graph = {}
    for name in SOURCES:
        found = {behind for module, imported in imports_of(name) for behind in modules_behind(module, imported)}
        graph[name] = {module for module in found if module in SOURCES} - {name}
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """What is left when all that imports nothing is taken away again and again."""
    left = {name: set(others) for name, others in graph.items()}
    while True:
        ends = {name for name, others in left.items() if not others & left.keys()}
        if not ends:
            break
        left = {name: others for name, others in left.items() if name not in ends}
    used = {other for others in left.values() for other in others}
    return sorted(left.keys() & used)


def test_no_two_modules_import_each_other():
    """Not through others either, nor inside functions."""
    assert circle_in(import_graph()) == []


def test_no_two_packages_import_each_other():
    """The packages of the top and those of the models, whatever module of theirs it is."""
    graph: dict[str, set[str]] = {}
    for name, others in import_graph().items():
        package = folder_of(name)
        graph.setdefault(package, set()).update({folder_of(other) for other in others} - {package})
    assert circle_in(graph) == []


def folder_of(name: str) -> str:
    """``mmdet.engine.hooks.x`` -> ``engine``, ``mmdet.models.layers.x`` -> ``models.layers``."""
    parts = name.split('.')[1:]
    return '.'.join(parts[: 2 if parts[:1] == ['models'] else 1])


def test_circles_are_found():
    assert circle_in({'a': {'b'}, 'b': {'c'}, 'c': {'b'}, 'd': {'a'}}) == ['a', 'b', 'c']
    assert circle_in({'a': {'b'}, 'b': set()}) == []


@pytest.mark.parametrize('name', MODULES)
def test_no_private_name_of_another_module(name):
    """Neither ``from mmdet.x import _y`` nor ``x._y`` of a module ``x`` of ours."""
    ours = [(module, imported) for module, imported in imports_of(name) if within(module, 'mmdet')]
    wrong = [f'{module}.{imported}' for module, imported in ours if is_private(imported)]
    modules = {imported for module, imported in ours if f'{module}.{imported}' in SOURCES}
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding='utf-8'))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules and is_private(node.attr):
            wrong.append(ast.unparse(node))
    assert not wrong, f'{name} uses {wrong}'


def is_private(name: str) -> bool:
    return name.startswith('_') and not name.endswith('__')


@pytest.mark.parametrize('name', MODULES)
def test_compiled_mmcv_is_not_required(name):
    top_level = ast.parse(SOURCES[name].read_text(encoding='utf-8')).body
    text = '\n'.join(ast.unparse(node) for node in top_level if isinstance(node, ast.Import | ast.ImportFrom))
    assert 'mmcv.ops' not in text and 'pkg_resources' not in text


@functools.cache
def table_of(package: str) -> dict[str, list[str]]:
    """Submodule -> names, as the call of ``attach`` in the package's ``__init__`` lists them."""
    for node in ast.walk(ast.parse(SOURCES[package].read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'attach':
            return {module: names.split() for module, names in ast.literal_eval(node.args[1]).items()}
    return {}


PACKAGES = [name for name, path in SOURCES.items() if path.name == '__init__.py' and table_of(name)]


@pytest.fixture(scope='module')
def registered() -> dict[str, dict[str, object]]:
    """Registry -> name -> what is registered, after every module of the package was imported."""
    for module in pkgutil.walk_packages(mmdet.__path__, 'mmdet.'):
        importlib.import_module(module.name)
    nodes = {name: node for name, node in vars(registry).items() if isinstance(node, registry.LazyRegistry)}
    return {name: dict(node._module_dict) for name, node in nodes.items()}


def test_tables_name_all_that_is_registered(registered):
    missing = []
    for kind, entries in registered.items():
        for name, found in entries.items():
            package, _, module = found.__module__.rpartition('.')
            if package.startswith('mmdet') and name not in table_of(package).get(module, ()):
                missing.append(f'{package}: {module!r}: {name} ({kind})')
    assert not missing, 'registered, but not in the table of the package: ' + '; '.join(sorted(missing))


@pytest.mark.parametrize('package', PACKAGES)
def test_tables_name_only_what_there_is(package, registered):
    everything = {name for entries in registered.values() for name in entries}
    for submodule, names in table_of(package).items():
        assert f'{package}.{submodule}' in SOURCES, f'{package} lists {submodule!r}, which does not exist'
        module = importlib.import_module(f'{package}.{submodule}')
        absent = [name for name in names if not hasattr(module, name) and name not in everything]
        assert not absent, f'{package} lists {absent} in {submodule!r}, which neither defines nor registers them'
        assert names or SOURCES[f'{package}.{submodule}'].name == '__init__.py', f'{submodule!r} lists no names'


@pytest.mark.parametrize('package', PACKAGES)
def test_star_imports(package):
    exec(f'from {package} import *', {})


def loaded_by(statement: str) -> list[str]:
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    output = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    return output.splitlines()[-1].split()


def test_import_of_models_is_light():
    loaded = loaded_by('import mmdet.models')
    assert len([name for name in loaded if within(name, 'mmdet')]) < 50
    assert not {'scipy', 'matplotlib', 'torchvision', 'pycocotools'} & set(loaded)


def test_a_name_loads_one_module_and_what_it_imports():
    loaded = loaded_by('from mmdet.registry import MODELS; assert MODELS.get("mmdet.FocalLoss")')
    assert 'mmdet.models.losses.focal_loss' in loaded
    assert not [name for name in loaded if name.startswith(('mmdet.models.detectors.', 'mmdet.models.backbones.'))]
