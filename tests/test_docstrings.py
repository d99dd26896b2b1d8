"""Every public name says what its signature cannot, or inherits it."""

import importlib
import inspect
from types import ModuleType

import pytest
from test_imports import MODULES


def documented(kind: type, name: str) -> bool:
    """Whether a method says what it does, or the method that it overrides; that of torch's ``forward`` says nothing."""
    bases = [base for base in kind.__mro__ if name in vars(base)]
    if name == 'forward':
        bases = [base for base in bases if not base.__module__.startswith('torch.')]
    return any(getattr(vars(base)[name], '__doc__', None) for base in bases)


def is_code(value) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


def undocumented(module) -> list[str]:
    """Public functions, classes and methods that a module defines and that neither say nor inherit what they do."""
    found = []
    for name, value in vars(module).items():
        if name.startswith('_') or getattr(value, '__module__', None) != module.__name__:
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)) or value.__name__ != name:
            continue
        if not vars(value).get('__doc__') if inspect.isclass(value) else not value.__doc__:
            found.append(name)
        if inspect.isclass(value):
            methods = [key for key, method in vars(value).items() if not key.startswith('_') and is_code(method)]
            found += [f'{name}.{key}' for key in methods if not documented(value, key)]
    return found


@pytest.mark.parametrize('name', MODULES)
def test_public_names_have_docstrings(name):
    found = undocumented(importlib.import_module(name))
    assert not found, f'without a docstring: {", ".join(found)}'


def test_what_is_missing_is_found():
    module = ModuleType('example')
    text = """
import torch

class Described:
    "It is."
    def told(self): "It does."
    def untold(self): ...
    def _inner(self): ...
    @property
    def value(self): ...

class Plain(Described):
    def told(self): ...

class Layer(torch.nn.Module):
    "A layer."
    def forward(self, x): ...
    def extra_repr(self): ...

def silent(): ...
def spoken(): "It speaks."
"""
    exec(text, vars(module))
    assert undocumented(module) == ['Described.untold', 'Described.value', 'Plain', 'Layer.forward', 'silent']
