"""The registries, children of mmengine's, that import a module only when a config names something in it."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry
from mmengine.registry import registry as mmengine_module
from mmengine.utils import get_object_from_string

from mmdet.errors import UserKeyError, UserTypeError, UserValueError
from mmdet.lazy import modules_that_export
from mmdet.names_3x import registered_names

# Classes of mmpretrain (once mmcls) that detectors use, which are here as well. Nothing is registered under these
# names, so that code outside may register its own.
OF_MMPRETRAIN = {'ConvNeXt', 'LN2d', 'TIMMBackbone'}


class UnknownNameError(UserKeyError):
    """A ``type`` that no registry knows."""


class AbsentNameError(UnknownNameError):
    """A ``type`` that MMDetection 3.x registers and this package does not have yet."""


class UnimportedNameError(UnknownNameError):
    """A ``type`` that could only be found by importing what a file names, while that is not allowed."""


class UnknownArgumentError(UserTypeError, UserValueError):
    """A keyword in a config that the class it is meant for does not take."""


class _LazyDict(dict):
    """Registered modules by name; looking for a name imports the module that its package's table gives."""

    def __init__(self, locations: list[str], eager: tuple[str, ...]) -> None:
        super().__init__()
        self._locations, self._eager = locations, eager

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self._load(name))

    def _load(self, name: str) -> bool:
        if not name.isidentifier():
            return False
        for location in self._locations:
            for module in modules_that_export(location, name):
                import_module(module)  # which registers the class
                if super().__contains__(name):
                    return True
        return False

    def load_all(self) -> None:
        for location in (*self._eager, *self._locations):
            package = import_module(location)
            for name in getattr(package, '__all__', ()):
                getattr(package, name, None)


class LazyRegistry(Registry):
    """A registry that imports the one module a name needs, not the whole package.

    Args:
        locations: Packages made with :func:`mmdet.lazy.attach`, searched in this order.
        eager: Modules of other libraries that fill the parent registry when they are imported.
    """

    def __init__(self, name: str, *, locations: list[str], eager: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(name, locations=locations, **kwargs)
        self._eager = eager
        self._imported = False
        self._module_dict = _LazyDict(locations, eager)

    @property
    def module_dict(self) -> dict:
        """All that is registered, which imports every module of the packages."""
        self._module_dict.load_all()
        return self._module_dict

    def import_from_location(self) -> None:
        """Only what other libraries register; ours come by name."""
        if not self._imported:
            self._imported = True
            for module in self._eager:
                import_module(module)

    def get(self, key: str) -> Any:
        """The class or function registered as ``key``.

        Raises:
            UnknownNameError: with the nearest names, where mmengine's registry would return ``None``.
            AbsentNameError: for a name of MMDetection 3.x that is not in this package yet.
        """
        try:
            found = self._stand_in(key) or super().get(key)
        except RuntimeError as error:
            if _CLOSED.get():
                found = self._registered_at(key)
                if found is not None:
                    return found
                raise UnimportedNameError(
                    f'The config that came with the weights names {str(key)[:200]!r}, which no imported module has '
                    'registered, and nothing is imported for such a config. If you trust it, import the module that '
                    'registers the name first, or give a config file.'
                ) from None
            raise UnknownNameError(f'{key!r} cannot be imported: {error.__context__ or error}') from error
        if found is None:
            if is_absent(key):
                raise AbsentNameError(f'{key!r} is part of MMDetection 3.x but not yet in this package.')
            raise UnknownNameError(self._unknown(key))
        return found

    def _stand_in(self, key: str) -> Any:
        """Our class for one of mmpretrain, unless code outside has registered its own or imported mmpretrain."""
        scope, _, name = str(key).rpartition('.')
        if name not in OF_MMPRETRAIN or not (scope in ('', self.scope) or stands_in_for(scope)):
            return None
        node: Registry | None = self
        while node is not None and scope in ('', self.scope):
            if name in node._module_dict:
                return None
            node = node.parent
        modules = (module for location in self._locations for module in modules_that_export(location, name))
        return next((getattr(import_module(module), name) for module in modules), None)

    def _registered_at(self, path: str) -> Any:
        """What this registry or a parent has registered, by a dotted path such as lazy configs dump."""
        package, _, name = path.rpartition('.')
        node: Registry | None = self
        while node is not None and package:
            same_key = [node._module_dict[name]] if name in node._module_dict else []
            for found in (*same_key, *dict.values(node._module_dict)):
                home = getattr(found, '__module__', None) or ''
                if getattr(found, '__name__', '') == name and home.partition('.')[0] == package.partition('.')[0]:
                    return found
            node = node.parent
        return None

    def build(self, cfg: dict, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().build(cfg, *args, **kwargs)
        except TypeError as error:
            if isinstance(error, UnknownArgumentError) or not isinstance(cfg, dict):
                raise
            message = self._unknown_argument(cfg, str(error))
            if message is None:
                raise
            raise UnknownArgumentError(message) from error

    def _unknown(self, key: str) -> str:
        scope, _, name = key.rpartition('.')
        if scope not in ('', self.scope):
            return f'{key!r} is in no registry: {scope} must be installed, and its module named in custom_imports.'
        names = set(self._module_dict)  # the tables give the rest without importing it
        for location in self._locations:
            names |= {name for name in import_module(location).__all__ if name[:1].isupper()}
        parent = self.parent
        while parent is not None:
            names |= set(parent.module_dict)
            parent = parent.parent
        near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)
        hint = f' Did you mean {" or ".join(near)}?' if near else ''
        homes = [f'{node.name!r}' for node in _nodes if name in node._module_dict]
        if homes:
            hint = f' It is in the {" and ".join(homes)} registry.'
        return (
            f'{key!r} is not in the {self.name!r} registry of mmdet.{hint} A class of your own must be imported '
            f'first, for example with custom_imports=dict(imports=["my_package.my_module"]).'
        )

    def _unknown_argument(self, cfg: dict, error: str) -> str | None:
        kind = cfg['type']
        cls = self.get(kind) if isinstance(kind, str) else kind
        own_gap = f'{getattr(cls, "__name__", cls)}.__init__() missing' in error
        if 'unexpected keyword argument' not in error and not own_gap:
            return None
        known = argument_names(cls)
        # A misspelt argument that is required shows as a missing one.
        name = next((name for name in cfg if f"'{name}'" in error or name not in known | {'type', '_scope_'}), None)
        if name is None:
            return None
        near = difflib.get_close_matches(name, sorted(known - {name}), n=3, cutoff=0.6)
        hint = f' Did you mean {" or ".join(near)}?' if near else f' It takes {", ".join(sorted(known)) or "none"}.'
        return f'{getattr(cls, "__name__", cls)} has no argument {name!r} (given {cfg[name]!r}).{hint}'


# --------------------------------------------------------------------------------------------------------------------
# Building without importing
_CLOSED: ContextVar[bool] = ContextVar('closed', default=False)


@contextlib.contextmanager
def only_registered() -> Iterator[None]:
    """Let every registry, mmengine's own too, build from what is registered and import nothing that a config names.

    The tables of this package and the locations of a registry still count: code that is imported already gave them.
    A dotted name counts where it is that of a registered class or function.
    """
    token = _CLOSED.set(True)
    try:
        yield
    finally:
        _CLOSED.reset(token)


def _all_nodes() -> Iterator[Registry]:
    waiting = [node for node in vars(root).values() if isinstance(node, Registry)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children.values()


def is_scope(name: object) -> bool:
    """Whether a registry that is imported already has this scope."""
    return any(node.scope == name for node in _all_nodes())


def _import_for_registry(name: str, package: str | None = None) -> ModuleType:
    if _CLOSED.get() and name not in sys.modules and all(name not in node._locations for node in _all_nodes()):
        raise ImportError(f'{name} is not imported for a config that came with weights')
    return import_module(name, package)


def _object_for_registry(path: str) -> Any:
    if not _CLOSED.get():
        return get_object_from_string(path)
    raise ImportError(f'{path} is not imported for a config that came with weights')


# The two names through which mmengine's registries import what a config names
mmengine_module.import_module = _import_for_registry
mmengine_module.get_object_from_string = _object_for_registry


def stands_in_for(package: str) -> bool:
    """Whether what detectors use of another package is taken from this one, since nobody has imported the other."""
    return package.partition('.')[0] in ('mmpretrain', 'mmcls') and package.partition('.')[0] not in sys.modules


def is_absent(name: str) -> bool:
    """Whether MMDetection 3.x registers ``name`` and no registry of this package knows it yet."""
    name = name.removeprefix('mmdet.')
    return name in registered_names() and not any(name in node._module_dict for node in _nodes)


def argument_names(cls: Any) -> set[str]:
    """Names that a constructor takes by keyword, those that ``**kwargs`` hands to base classes included.

    A class of several parents that hands them to another than the next says so by ``keywords_go_to``; one that hands
    them to another library sets it to None.
    """
    if not inspect.isclass(cls):
        return set(inspect.signature(cls).parameters)
    names: set[str] = set()
    for base in cls.__mro__:
        init = base.__dict__.get('__init__')
        if init is None or base is object:
            continue
        parameters = inspect.signature(init).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
        if (further := vars(base).get('keywords_go_to')) is not None:
            return names - {'self'} | argument_names(further)
    return names - {'self'}


_nodes: list[LazyRegistry] = []


def _node(name: str, parent: Registry, *locations: str, eager: tuple[str, ...] = ()) -> LazyRegistry:
    places = [f'mmdet.{place}' for place in locations]
    _nodes.append(LazyRegistry(name, parent=parent, scope='mmdet', locations=places, eager=eager))
    return _nodes[-1]


RUNNERS = _node('runner', root.RUNNERS, 'engine.runner')
RUNNER_CONSTRUCTORS = _node('runner constructor', root.RUNNER_CONSTRUCTORS, 'engine.runner')
LOOPS = _node('loop', root.LOOPS, 'engine.runner')
HOOKS = _node('hook', root.HOOKS, 'engine.hooks')
LOG_PROCESSORS = _node('log_processor', root.LOG_PROCESSORS, 'engine.runner')
OPTIMIZERS = _node('optimizer', root.OPTIMIZERS, 'engine.optimizers')
OPTIM_WRAPPERS = _node('optim_wrapper', root.OPTIM_WRAPPERS, 'engine.optimizers')
OPTIM_WRAPPER_CONSTRUCTORS = _node('optimizer constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine.optimizers')
PARAM_SCHEDULERS = _node('parameter scheduler', root.PARAM_SCHEDULERS, 'engine.schedulers')

DATASETS = _node('dataset', root.DATASETS, 'datasets')
DATA_SAMPLERS = _node('data sampler', root.DATA_SAMPLERS, 'datasets.samplers')
TRANSFORMS = _node('transform', root.TRANSFORMS, 'datasets.transforms', eager=('mmcv.transforms',))

MODELS = _node('model', root.MODELS, 'models', 'ops', 'export', eager=('mmcv.cnn',))
# no location: mmengine lists all wrappers whenever it initialises weights, which would import every model
MODEL_WRAPPERS = _node('model_wrapper', root.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _node('weight initializer', root.WEIGHT_INITIALIZERS, 'models')
TASK_UTILS = _node('task util', root.TASK_UTILS, 'models.task_modules')

METRICS = _node('metric', root.METRICS, 'evaluation')
EVALUATOR = _node('evaluator', root.EVALUATOR, 'evaluation')
VISUALIZERS = _node('visualizer', root.VISUALIZERS, 'visualization')
VISBACKENDS = _node('vis_backend', root.VISBACKENDS, 'visualization')
INFERENCERS = _node('inferencer', root.INFERENCERS, 'apis')
