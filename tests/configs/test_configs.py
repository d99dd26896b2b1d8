"""Every config loads, and resolves as the reference of the same path does."""

import ast
import copy
import functools
import gzip
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = sorted(p.relative_to(CONFIGS).as_posix() for p in CONFIGS.rglob('*.py'))
FAMILIES = sorted({name.split('/')[0] for name in FILES})
# What decides training, evaluation and test-time augmentation.
KEYS = ['model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator']
KEYS += ['optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'custom_hooks', 'auto_scale_lr']
KEYS += ['tta_model', 'tta_pipeline']


@pytest.fixture(scope='module', autouse=True)
def read_files_once():
    """mmengine reads a base again for every config that names it, which is most of the time that loading takes."""
    read = Config._file2dict
    read_once = functools.cache(lambda path, options: read(path, **dict(options)))

    def file2dict(filename, *args, **kwargs):
        names = ('use_predefined_variables', 'use_environment_variables', 'lazy_import')
        options = tuple({**dict(zip(names, args, strict=False)), **kwargs}.items())
        return copy.deepcopy(read_once(str(Path(filename).resolve()), options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, '_file2dict', staticmethod(file2dict))
        yield


@functools.cache
def resolve(name):
    return Config.fromfile(CONFIGS / name)._cfg_dict.to_dict()


# Where ours leaves the reference on purpose; the README of the family says why.
ON_PURPOSE = {'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt.py'}


def family_files(family):
    return [name for name in FILES if name.split('/')[0] == family]


def bases_of(path):
    """The values of ``_base_`` as written, without running the file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else value
    return []


def differences(have, want, where=''):
    """Paths at which two plain values differ; a list and a tuple of equal items are equal."""
    if isinstance(have, dict) and isinstance(want, dict):
        for key in [*want, *(k for k in have if k not in want)]:
            if key not in have or key not in want:
                yield f'{where}.{key}: {"missing" if key not in have else "not in the reference"}'
            else:
                yield from differences(have[key], want[key], f'{where}.{key}')
    elif isinstance(have, (list, tuple)) and isinstance(want, (list, tuple)) and len(have) == len(want):
        for i, pair in enumerate(zip(have, want, strict=True)):
            yield from differences(*pair, f'{where}[{i}]')
    elif have != want:
        yield f'{where}: {str(have)[:80]}, want {str(want)[:80]}'


def untuple(value):
    """JSON has no tuples: ``{"tuple": [...]}`` stands for one."""
    if isinstance(value, dict):
        if set(value) == {'tuple'}:
            return tuple(untuple(v) for v in value['tuple'])
        return {k: untuple(v) for k, v in value.items()}
    return [untuple(v) for v in value] if isinstance(value, list) else value


def reference(shared_dir, family):
    path = shared_dir / 'parity' / 'configs' / f'{family}.json.gz'
    if not path.is_file():
        pytest.skip(f'the reference has no {family}')
    with gzip.open(path, 'rt') as file:
        return untuple(json.load(file))


def test_bases_exist():
    lost = [f'{n}: {b}' for n in FILES for b in bases_of(CONFIGS / n) if not (CONFIGS / n).parent.joinpath(b).is_file()]
    assert not lost


@pytest.mark.parametrize('family', FAMILIES)
def test_loads(family):
    for name in family_files(family):
        config = resolve(name)
        assert config, f'{name} sets nothing'
        for key in ('train_dataloader', 'val_dataloader'):
            if isinstance(config.get(key), dict):
                assert 'dataset' in config[key], f'{name}: {key} has no dataset'


@pytest.mark.parametrize('family', FAMILIES)
def test_resolves_as_the_reference(family, shared_dir):
    wanted = reference(shared_dir, family)
    found = {}
    for name in set(wanted) & set(FILES) - ON_PURPOSE:
        have, want = ({k: v[k] for k in KEYS if k in v} for v in (resolve(name), wanted[name]))
        found[name] = list(differences(have, want))
    assert not {name: diffs[:3] for name, diffs in found.items() if diffs}


@pytest.mark.parametrize('family', [f for f in FAMILIES if f not in ('_base_', 'common', 'quickstart')])
def test_readme_names_configs_that_exist(family):
    folder = CONFIGS / family
    text = (folder / 'README.md').read_text()
    assert text.startswith('# ')
    links = [link for link in re.findall(r'\]\(([^)#]+?)\)', text) if '://' not in link]
    assert not [link for link in links if not (folder / link).is_file()]


@pytest.mark.parametrize(
    'name', [n for n in FILES if n.startswith(('atss/', 'retinaface/')) and not n.endswith('tta.py')]
)
def test_atss_and_retinaface_build(name, default_scope):
    import torch

    from mmdet.registry import MODELS

    config = Config(resolve(name))
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6
    if 'tta_model' in config:
        MODELS.build(dict(config.tta_model, module=model))
