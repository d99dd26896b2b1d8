"""The config files, by family, and what they resolve to."""

import contextlib
import copy
import functools
import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = sorted(p.relative_to(CONFIGS).as_posix() for p in CONFIGS.rglob('*.py'))
FAMILIES = sorted({name.split('/')[0] for name in FILES})
FAMILIES_WITH_MODELS = [family for family in FAMILIES if family not in ('_base_', 'common')]


def family_files(family):
    return [name for name in FILES if name.split('/')[0] == family]


@functools.cache
def resolve(name):
    with reading_each_file_once():
        return Config.fromfile(CONFIGS / name)._cfg_dict.to_dict()


def whole(family):
    return [name for name in family_files(family) if 'model' in resolve(name) and '_base_' not in name]


@functools.cache
def _read_once():
    read = Config._file2dict
    return functools.cache(lambda path, options: read(path, **dict(options)))


@contextlib.contextmanager
def reading_each_file_once():
    """mmengine reads a base again for every config that names it, which is most of the time that loading takes."""
    read_once = _read_once()

    def file2dict(filename, *args, **kwargs):
        names = ('use_predefined_variables', 'use_environment_variables', 'lazy_import')
        options = tuple({**dict(zip(names, args, strict=False)), **kwargs}.items())
        return copy.deepcopy(read_once(str(Path(filename).resolve()), options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, '_file2dict', staticmethod(file2dict))
        yield


def tool(name):
    """A script of tools/misc as a module."""
    path = CONFIGS.parent / 'tools' / 'misc' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MARKS = tool('mark_configs')
