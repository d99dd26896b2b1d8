"""Packages that import a submodule only when one of its names is asked for (PEP 562)."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mmdet.names_3x import absent


def attach(package: str, exports: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a lazy package.

    Args:
        package: ``__name__`` of the package.
        exports: Submodule -> its public names, separated by spaces. A value of ``''`` marks a nested lazy package,
            whose names are reachable from here too. A name that the submodule registers but does not define (an
            alias in a registry) may be listed: asking for it imports the submodule.
    """
    home = {name: module for module, names in exports.items() for name in names.split()}
    nested = [module for module, names in exports.items() if not names]

    def __getattr__(name: str) -> Any:
        if name in home:
            return getattr(import_module(f'{package}.{home[name]}'), name)
        if name in exports:
            return import_module(f'{package}.{name}')
        if not name.startswith('_'):
            for module in nested:
                try:
                    return getattr(import_module(f'{package}.{module}'), name)
                except AttributeError:
                    continue
        raise AttributeError(absent(package, name) or f'module {package!r} has no attribute {name!r}')

    def modules_of(name: str) -> Iterator[str]:
        if name in home:
            yield f'{package}.{home[name]}'
        for module in nested:
            yield from modules_that_export(f'{package}.{module}', name)

    __getattr__.modules_of = modules_of  # type: ignore[attr-defined]

    sys.modules[package].__class__ = _LazyPackage

    names = sorted(home)
    everything = sorted({*home, *exports})

    def __dir__() -> list[str]:
        inner = [name for module in nested for name in dir(import_module(f'{package}.{module}'))]
        return sorted({*everything, *inner})

    return __getattr__, __dir__, _All(package, names, nested)


def modules_that_export(package: str, name: str) -> Iterator[str]:
    """Modules in and below a lazy package that list ``name``: more than one where two registries share it."""
    lookup: Any = import_module(package).__getattr__
    yield from lookup.modules_of(name)


class _LazyPackage(ModuleType):
    """A package in which an export wins over the submodule of the same name (``losses.iou_loss`` is the function)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in self.__dict__.get('__all__', ()):
            return  # the import system binds a submodule to its package after importing it
        super().__setattr__(name, value)


class _All(list):
    """``__all__`` of a lazy package: its own names, then those of the nested packages, looked up when iterated."""

    def __init__(self, package: str, names: list[str], nested: list[str]) -> None:
        super().__init__(names)
        self._package, self._nested, self._complete = package, nested, not nested

    def complete(self) -> _All:
        if not self._complete:
            self._complete = True
            for module in self._nested:
                inner = import_module(f'{self._package}.{module}').__all__
                self.extend(inner.complete() if isinstance(inner, _All) else inner)
        return self

    def __iter__(self):
        self.complete()
        return super().__iter__()

    def __getitem__(self, index):
        self.complete()
        return super().__getitem__(index)

    def __len__(self) -> int:
        self.complete()
        return super().__len__()


class OldPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports of module paths that were merged into another module give that module.

    It stands behind the finder of files, so it is asked only for modules that have no file of their own.
    """

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table
        self._specs: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for the paths of the table only."""
        if fullname in self.table:
            return importlib.util.spec_from_loader(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.table[spec.name])
        self._specs[spec.name] = module.__spec__  # importlib is about to overwrite it with the alias's
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run: the module has its own spec again."""
        assert module.__spec__ is not None
        name = module.__spec__.name
        module.__spec__ = self._specs.pop(name, module.__spec__)


def install_old_paths(table: dict[str, str]) -> None:
    """Let ``import old.path`` give the module ``table['old.path']`` from now on."""
    sys.meta_path.append(OldPaths(table))


class AfterImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Calls a function of ours when a module of another library has been imported.

    It stands before the finder of files and hands each module of its table to the loader that files have.

    Args:
        actions: Name of the module -> ``'module:function'``, imported when it is needed.
    """

    def __init__(self, actions: dict[str, str]) -> None:
        self.actions = dict(actions)
        self._loaders: dict[str, Any] = {}

    def install(self) -> None:
        """Begin; modules that are imported already have their turn at once."""
        sys.meta_path.insert(0, self)
        for name in [name for name in self.actions if name in sys.modules]:
            self._act(name)

    def _act(self, name: str) -> None:
        module, _, function = self.actions.pop(name).partition(':')
        getattr(import_module(module), function)()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for the modules of the table only, with this object as its loader."""
        if fullname not in self.actions:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            self._loaders[fullname], spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loaders[spec.name].create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module by its own loader, which it keeps, then our function."""
        assert module.__spec__ is not None
        loader = self._loaders.pop(module.__name__)
        module.__spec__.loader = module.__loader__ = loader
        loader.exec_module(module)
        self._act(module.__name__)


class Facade(ModuleType):
    """A package whose names are those of other packages."""

    def __init__(self, name: str, sources: tuple[str, ...]) -> None:
        super().__init__(name)
        self.__dict__['_sources'] = sources

    def __getattr__(self, name: str) -> Any:
        if name == '__all__':
            return [n for source in self._sources for n in getattr(import_module(source), '__all__', ())]
        if not name.startswith('__'):
            for source in self._sources:
                try:
                    return getattr(import_module(source), name)
                except AttributeError:
                    continue
        raise AttributeError(
            f'{self.__name__!r} has no {name!r}, nor has {" or ".join(self._sources)}, where it stands'
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in self.__all__:
            return  # as in a lazy package, an export wins over the submodule of its name
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


class Facades(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a :class:`Facade` for each name in a table.

    Args:
        unless: The table does not count where this module is installed.
        absent: What to say of other modules and names in the packages of the table, with ``{name!r}`` for them.
    """

    def __init__(self, table: dict[str, tuple[str, ...]], unless: str | None = None, absent: str | None = None) -> None:
        self.table, self.unless, self.absent = table, unless, absent

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec for the paths of the table, while the library that they stand for is absent."""
        if fullname in self.table:
            if self._counts():
                return importlib.util.spec_from_loader(fullname, self, is_package=True)
        elif self.absent and fullname.rpartition('.')[0] in self.table and self._counts():
            # not the name that was asked for: the import system would take that for a missing attribute
            raise ModuleNotFoundError(self.absent.format(name=fullname), name=self.unless)
        return None

    def _counts(self) -> bool:
        return self.unless is None or importlib.util.find_spec(self.unless) is None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Facade(spec.name, self.table[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run."""
        pass  # its names are looked up when they are asked for


def install_facades(table: dict[str, tuple[str, ...]], unless: str | None = None, absent: str | None = None) -> None:
    """Let ``import old`` give a package with the names of those in ``table['old']``; see :class:`Facades`.

    With ``unless`` it wins over files: those of a package that cannot be imported without its extension module.
    """
    sys.meta_path.insert(0 if unless else len(sys.meta_path), Facades(table, unless, absent))
