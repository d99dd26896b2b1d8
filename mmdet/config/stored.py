"""Configs that came with weights: their text is read as literals, and they build only from what is registered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from mmdet.config.literal import parse_stored_config
from mmdet.config.version2 import is_v2, translate_v2
from mmdet.errors import UserError, UserValueError
from mmdet.registry import is_scope, only_registered

# Where a file is read from; a client of a file store may be told where to import itself from
STORES = ('backend_args', 'file_client_args')
MAX_DEPTH = 60


class StoredConfig(Config):
    """A config that nobody chose: whatever is built from it is built within :func:`building`."""


def stored_config(text: Any, source: str) -> StoredConfig:
    """The config in a checkpoint or a recorded step, without what would fetch files or import modules.

    Left out are ``custom_imports``, initial and pretrained weights, the stores of :data:`STORES` and scopes that no
    imported module has. One of MMDetection 2.x is translated.

    Args:
        source: Name of the file in messages.

    Raises:
        UserValueError: it is no text of literals, or does not hold a config.
    """
    if not isinstance(text, str):
        raise UserValueError(f'{source} carries no config as text, but a {type(text).__name__}')
    try:
        values = {key: _inert(value) for key, value in parse_stored_config(text).items() if key != 'custom_imports'}
        if not is_scope(values.get('default_scope')):
            values['default_scope'] = 'mmdet'
        if is_v2(values):
            values = _inert(translate_v2(values)[0])
        return StoredConfig(values, format_python_code=False)
    except UserError as error:
        raise UserValueError(f'{source}: {error}') from error
    except Exception as error:
        raise UserValueError(f'the config in {source} cannot be used: {type(error).__name__}: {error}') from error


@contextlib.contextmanager
def building(cfg: Any) -> Iterator[None]:
    """Around everything that is built from ``cfg`` or computed by it: a :class:`StoredConfig` imports nothing."""
    if not isinstance(cfg, StoredConfig):
        yield
        return
    try:
        with only_registered():
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # values that nobody checked
        if type(error).__name__ == 'OutOfMemoryError':  # torch's, of a GPU
            raise
        reason = f'{type(error).__name__}: {error}'[:300]
        raise UserValueError(f'The config that came with the weights cannot be used: {reason}') from error


def _inert(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise UserValueError(f'it is nested more than {MAX_DEPTH} deep')
    if isinstance(value, dict):
        if isinstance(value.get('_scope_'), str) and not is_scope(value['_scope_']):
            value = {key: item for key, item in value.items() if key != '_scope_'}
        return {
            key: None if key == 'pretrained' or key in STORES else _inert(item, depth + 1)
            for key, item in value.items()
            if key != 'init_cfg'  # the weights that the config came with replace what it does
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_inert(item, depth + 1) for item in value)
    return value
