from __future__ import annotations

from mmengine.utils import get_git_hash
from mmengine.utils.dl_utils import collect_env as collect_base_env

from mmdet.version import __version__


def collect_env() -> dict[str, str]:
    """Versions of Python, torch, CUDA, the compilers and this package."""
    env = dict(collect_base_env())
    env['MMDetection'] = f'{__version__}+{get_git_hash(fallback="unknown")[:7]}'
    return env


if __name__ == '__main__':
    for name, value in collect_env().items():
        print(f'{name}: {value}')
