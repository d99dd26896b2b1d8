"""The packages that the backends of a visualizer write with."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mmdet.errors import UserImportError

PACKAGES = {
    'WandbVisBackend': 'wandb',
    'TensorboardVisBackend': 'tensorboard',
    'MLflowVisBackend': 'mlflow',
    'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
    'AimVisBackend': 'aim',
}


def require_packages(vis_backends: Any) -> None:
    """Stop where the package of a backend is not installed; the backend itself looks when it first writes.

    Args:
        vis_backends: As a visualizer takes them: dicts or objects, or one of these.

    Raises:
        ImportError: naming the backend and its package.
    """
    if not isinstance(vis_backends, (list, tuple)):
        vis_backends = [vis_backends]
    for index, backend in enumerate(vis_backends):
        kind = backend.get('type') if isinstance(backend, dict) else type(backend)
        name = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]
        package = PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise UserImportError(
                f'vis_backends[{index}]: {name} needs the package {package}, which is not installed: '
                f'pip install {package}, or leave {name} out'
            )
