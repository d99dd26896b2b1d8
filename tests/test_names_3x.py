"""What is part of MMDetection 3.x but not of this package is called so, and nothing else is."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mmdet.apis
import mmdet.models
from mmdet import registry
from mmdet.names_3x import AbsentImportError, absent, registered_names
from mmdet.registry import AbsentNameError, UnknownNameError

NOT_YET = 'is part of MMDetection 3.x but not yet in this package'
ABSENT = sorted(
    name
    for name, module in registered_names().items()
    if registry.is_absent(name) and not module.startswith('mmdet.testing.')  # which is known once it is imported
)


def test_the_table_is_that_of_the_reference(shared_dir):
    facts = json.loads((shared_dir / 'facts' / 'names_3.3.json').read_text())
    wanted = {name: m for m, names in facts.items() for name, fact in names.items() if 'registry' in fact}
    assert registered_names() == wanted
    exported = {(package, name) for package, names in facts.items() for name in names.get('__all__', ())}
    defined = {
        (package, name)
        for package, name in exported
        if any(module.startswith(f'{package}.') and name in names for module, names in facts.items())
    }
    assert not [pair for pair in defined if absent(*pair) is None]


@pytest.mark.skipif(hasattr(mmdet.apis, 'inference_mot'), reason='the functions have come')
@pytest.mark.parametrize(
    'statement',
    [
        'from mmdet.apis import inference_mot, init_track_model',
        'from mmdet.structures import ReIDDataSample',
        'from mmdet.models.trackers import BaseTracker',
        'import mmdet.models.trackers.base_tracker',
    ],
)
def test_functions_and_classes_of_no_registry_to_come(statement):
    with pytest.raises(AbsentImportError, match=NOT_YET):
        exec(statement)


@pytest.mark.parametrize('name', ABSENT[:: max(1, len(ABSENT) // 10)])
def test_a_name_to_come(name):
    for key in (name, f'mmdet.{name}'):
        with pytest.raises(AbsentNameError, match=f"^'{key}' {NOT_YET}"):
            registry.MODELS.build(dict(type=key))


@pytest.mark.parametrize('module', sorted({registered_names()[name] for name in ABSENT})[::20])
def test_a_module_to_come(module):
    if Path(mmdet.__file__).parents[1].joinpath(*module.split('.')).with_suffix('.py').is_file():
        pytest.skip('some of its names have come')
    with pytest.raises(AbsentImportError, match=NOT_YET):
        importlib.import_module(module)


@pytest.mark.skipif('YOLOXHead' not in ABSENT, reason='the class has come')
def test_attributes_to_come():
    with pytest.raises(AbsentImportError, match=f"^'YOLOXHead' {NOT_YET}"):
        exec('from mmdet.models import YOLOXHead')
    assert not hasattr(mmdet.models, 'YOLOXHead')
    with pytest.raises(AttributeError, match=NOT_YET):
        mmdet.models.YOLOXHead  # noqa: B018


@pytest.mark.skipif('YOLOX' not in ABSENT, reason='the class has come')
@pytest.mark.parametrize(
    'text',
    [
        "model = dict(type='YOLOX')",
        'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'
        'from mmdet.models import YOLOX\nmodel = dict(type=YOLOX)',
    ],
    ids=['classic', 'lazy'],
)
def test_configs_with_a_class_to_come(text, tmp_path, default_scope):
    from mmdet.checks import ConfigError, check_config, require_sound
    from mmdet.config import load_config

    (tmp_path / 'base.py').write_text('work_dir = None')
    (tmp_path / 'config.py').write_text(text)
    config = load_config(tmp_path / 'config.py')
    (finding,) = check_config(config)
    assert finding.where == 'model.type' and finding.level == 'error'
    assert f"'YOLOX' {NOT_YET}" in finding.message
    with pytest.raises(ConfigError, match=NOT_YET):
        require_sound(config, None)


@pytest.mark.parametrize('name', ['RetinaHed', 'mmyolo.YOLOXHead', 'MaxIoUAssigner'])
def test_mistakes_are_not_excused(name):
    with pytest.raises(UnknownNameError) as raised:
        registry.MODELS.get(name)
    assert not isinstance(raised.value, AbsentNameError) and NOT_YET not in str(raised.value)


def test_a_name_of_another_package_is_told():
    with pytest.raises(
        UnknownNameError, match=r"^'mmpretrain\.Nothing' is in no registry: mmpretrain must be installed"
    ):
        registry.MODELS.get('mmpretrain.Nothing')


def test_a_name_of_another_registry_is_told():
    with pytest.raises(UnknownNameError, match="It is in the 'task util' registry"):
        registry.MODELS.get('MaxIoUAssigner')
    with pytest.raises(UnknownNameError, match='Did you mean RetinaHead'):
        registry.MODELS.get('RetinaHed')


@pytest.mark.parametrize(
    'statement', ['import mmdet.nothing', 'from mmdet.models import Nothing', 'from mmdet.models.necks import ATSSHead']
)
def test_imports_of_what_never_was(statement):
    with pytest.raises(ImportError) as raised:
        exec(statement)
    assert NOT_YET not in str(raised.value)


def test_every_other_way_to_find_a_module_comes_first():
    code = 'import sys, mmdet; print(type(sys.meta_path[-1]).__name__)'
    output = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ['AbsentModules']
