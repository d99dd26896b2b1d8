"""Configs, runs and their fingerprints, for tests in this process and in others."""

import copy
import hashlib
import itertools
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # for custom_imports of the toy configs

_runs = itertools.count()


def toy_config(work_dir, **changes):
    """The toy config with changes by dotted key."""
    from mmdet.config import load_config

    cfg = load_config(Path(__file__).parent / 'toy_config.py')
    for key, value in changes.items():
        *path, last = key.split('__')
        node = cfg
        for part in path:
            node = node[part]
        node[last] = copy.deepcopy(value)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'toy_{next(_runs)}'  # mmengine shares loggers between runs of one second
    cfg.log_level = 'ERROR'
    return cfg


def build(cfg):
    from mmdet.engine.runner import DetRunner

    return DetRunner.from_cfg(copy.deepcopy(cfg))


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def run_ranks(function, *args, ranks=2, codes=None, seconds=60):
    """Call ``function(rank, ranks, port, *args)`` in as many processes; ``codes`` are to be their exit codes."""
    port, context = free_port(), multiprocessing.get_context('fork')
    processes = [context.Process(target=function, args=(rank, ranks, port, *args)) for rank in range(ranks)]
    for process in processes:
        process.start()
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(end - time.monotonic(), 0))
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert found == (codes or [0] * ranks)


def join_ranks(rank, ranks, port):
    """What a launcher tells a rank."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )


def fingerprint(runner):
    """Hashes of all that a run is: weights, optimizer, moving average, schedulers, scaler, logs."""
    state = {'model': runner.model.state_dict(), 'optimizer': runner.optim_wrapper.state_dict()}
    state['schedulers'] = [
        {k: v for k, v in s.state_dict().items() if not callable(v)} for s in runner.param_schedulers or []
    ]
    for hook in runner.hooks:
        if hasattr(hook, 'ema_model'):
            state['ema'] = hook.ema_model.state_dict()
    timed = ('time', 'data_time')
    logs = {k: b.data[0].tolist() for k, b in runner.message_hub.log_scalars.items() if k.split('/')[1] not in timed}
    for name, values in logs.items():
        state[name] = values
    state['info'] = {k: runner.message_hub.runtime_info.get(k) for k in ('epoch', 'iter', 'best_score')}
    return {name: _digest(part) for name, part in state.items()}


def _digest(value):
    sha = hashlib.sha256()

    def walk(x):
        if isinstance(x, torch.Tensor):
            sha.update(x.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(x, dict):
            for key in sorted(x, key=str):
                sha.update(str(key).encode())
                walk(x[key])
        elif isinstance(x, (list, tuple)):
            for item in x:
                walk(item)
        else:
            sha.update(repr(x).encode())

    walk(value)
    return sha.hexdigest()[:12]
