"""What an entry point does before anything else."""

from __future__ import annotations

import os
import platform


def register_all_modules(init_default_scope: bool = True) -> None:
    """Make ``mmdet`` the default scope, so that configs name its classes without a prefix.

    Nothing has to be imported for it: the registries find their modules by name.
    """
    if init_default_scope:
        from mmengine.registry import init_default_scope as set_scope

        set_scope('mmdet')


def setup_multi_processes(cfg: dict) -> None:
    """Start method, OpenCV threads and thread limits of data-loading workers, as ``cfg`` asks.

    Reads ``mp_start_method`` ('fork'), ``opencv_num_threads`` (0), ``omp_num_threads`` and ``mkl_num_threads`` (1);
    the last two apply with more than one worker and give way to the environment.
    """
    import torch.multiprocessing as mp

    if platform.system() != 'Windows':
        mp.set_start_method(cfg.get('mp_start_method', 'fork'), force=True)
    import cv2

    cv2.setNumThreads(cfg.get('opencv_num_threads', 0))
    workers = max(
        (cfg.get(name, {}).get('num_workers', 0) for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')),
        default=0,
    )
    if workers > 1:
        os.environ.setdefault('OMP_NUM_THREADS', str(cfg.get('omp_num_threads', 1)))
        os.environ.setdefault('MKL_NUM_THREADS', str(cfg.get('mkl_num_threads', 1)))


def setup_cache_size_limit_of_dynamo() -> None:
    """Let ``torch.compile`` keep more graphs (environment variable DYNAMO_CACHE_SIZE_LIMIT, 4): images vary in size."""
    import torch._dynamo

    torch._dynamo.config.cache_size_limit = int(os.environ.get('DYNAMO_CACHE_SIZE_LIMIT', '4'))


def get_device() -> str:
    """The device that a model runs on when none is named: an accelerator if there is one, else 'cpu'."""
    from mmengine.device import get_device as best_device

    return best_device()
