"""The processes of a job: how they find each other, and that none outlives the one that started it.

Nothing heavy is imported before it is needed: the tools call this while they parse their arguments.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import Any

from mmdet.errors import UserKeyError, UserRuntimeError, UserTypeError, UserValueError

_PR_SET_PDEATHSIG = 1
_watched = 0  # the process whose parent is watched: a fork has no threads
ENVIRONMENT = {  # of a launcher: the rank, the number of ranks, the rank on this machine
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}


class LostRankError(UserRuntimeError):
    """Another rank has ended or does not answer."""


# --------------------------------------------------------------------------------------------------------------------
# Ending with the parent
def end_with_parent(number: int = signal.SIGTERM, grace: float | None = 120.0, at_once: bool = True) -> None:
    """Let the end of the parent, by SIGKILL too, send this process a signal.

    Args:
        number: The signal. SIGTERM lets a training save and leave.
        grace: Seconds after which the process ends, whatever it did with the signal. None: it gets that long.
        at_once: Let Linux send it. That is when the thread of the parent ends that started this process, so it is for
            parents that are known. Otherwise, and elsewhere, a thread looks every two seconds.
    """
    global _watched
    parent = os.getppid()
    told = at_once and sys.platform == 'linux' and _tell_linux(number)
    if told and os.getppid() != parent:  # it ended meanwhile
        os.kill(os.getpid(), number)
    if _watched != os.getpid() and (grace is not None or not told):
        _watched = os.getpid()
        arguments = (parent, None if told else number, grace)
        threading.Thread(target=_watch_parent, args=arguments, name='parent watch', daemon=True).start()


def _tell_linux(number: int) -> bool:
    try:
        return ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _watch_parent(parent: int, number: int | None, grace: float | None) -> None:
    while os.getppid() == parent:
        time.sleep(2.0)
    if number is not None:
        os.kill(os.getpid(), number)
    if grace is not None:
        time.sleep(grace)
        os._exit(128 + signal.SIGTERM)


# --------------------------------------------------------------------------------------------------------------------
# The process group
def start_process_group(launcher: str, dist_cfg: dict | None = None) -> None:
    """Start torch's default process group as ``env_cfg.dist_cfg`` says, with or without GPUs.

    Args:
        launcher: 'pytorch', 'slurm' or 'mpi'.
        dist_cfg: ``backend`` (nccl; gloo on a machine without a GPU, where nccl means gloo), ``timeout`` in seconds or
            as a timedelta, and what else :func:`mmengine.dist.init_dist` takes.
    """
    import torch
    import torch.distributed as dist
    from mmengine.dist import init_dist

    if dist.is_initialized():
        return
    settings = dict(dist_cfg or {})
    limit = settings.pop('timeout', None)
    if limit is not None:
        settings['timeout'] = _seconds(limit)
    if launcher not in ENVIRONMENT:
        raise UserValueError(f'launcher must be one of {", ".join(ENVIRONMENT)}, not {launcher!r}')
    if torch.cuda.is_available():
        init_dist(launcher, **settings)
        return
    # mmengine's own path calls torch.cuda.set_device
    _export_ranks(launcher, settings.pop('port', None))
    settings.pop('init_backend', None)
    backend = settings.pop('backend', 'gloo')
    if 'timeout' in settings:
        settings['timeout'] = timedelta(seconds=settings['timeout'])
    dist.init_process_group('gloo' if backend == 'nccl' else backend, **settings)


def _seconds(limit: Any) -> float:
    if isinstance(limit, timedelta):
        limit = limit.total_seconds()
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise UserTypeError(f'env_cfg.dist_cfg.timeout must be a number of seconds, not {limit!r}')
    if not 0 < limit < float('inf'):
        raise UserValueError(f'env_cfg.dist_cfg.timeout must be a positive number of seconds, not {limit}')
    return limit


def timeout_of(dist_cfg: dict | None) -> float:
    """Seconds that a collective call may take: the config's, else those of torch, which differ by backend."""
    import torch.distributed as dist

    limit = (dist_cfg or {}).get('timeout')
    if limit is not None:
        return _seconds(limit)
    return 600.0 if 'nccl' in str(dist.get_backend()) else 1800.0


def _export_ranks(launcher: str, port: int | None) -> None:
    """Put what a launcher tells into the variables that torch reads."""
    for ours, theirs in zip(ENVIRONMENT['pytorch'], ENVIRONMENT[launcher], strict=True):
        if theirs not in os.environ:
            raise UserKeyError(f'{theirs} is not set, which the launcher {launcher!r} sets: was the job started by it?')
        os.environ[ours] = os.environ[theirs]
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    if launcher != 'pytorch':
        os.environ.setdefault('MASTER_PORT', '29500')
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        os.environ['MASTER_ADDR'] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[
            0
        ]


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective call failed, since another rank is gone or has not answered in time."""
    import torch.distributed as dist

    if isinstance(error, getattr(dist, 'DistError', ())):
        return True
    text = str(error)
    signs = ('/gloo/', 'NCCL', 'Application timeout caused pair closure')
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def leave_process_group() -> None:
    """End torch's default process group, if there is one."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
