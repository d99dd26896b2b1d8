"""Sums and means over processes; without a process group they return what they are given."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast, get_dist_info, get_world_size
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter

from mmdet.errors import UserValueError


def reduce_mean(tensor: Tensor) -> Tensor:
    """Mean over all processes; the tensor itself is not changed."""
    world_size = get_world_size()
    if world_size == 1:
        return tensor
    tensor = tensor.detach() / world_size
    all_reduce(tensor)
    return tensor


def obj2tensor(pyobj: Any, device: str | torch.device = 'cuda') -> Tensor:
    """A Python object as a tensor of its pickled bytes."""
    return torch.frombuffer(bytearray(pickle.dumps(pyobj)), dtype=torch.uint8).to(device)


def tensor2obj(tensor: Tensor) -> Any:
    """Inverse of :func:`obj2tensor`. Unpickling runs code: only for tensors of one's own processes."""
    return pickle.loads(tensor.cpu().numpy().tobytes())


def all_reduce_dict(py_dict: dict[str, Tensor], op: str = 'sum', group: Any = None, to_float: bool = True) -> dict:
    """Sum or mean of every tensor of a dict with one communication.

    Args:
        py_dict: Tensors by name, the same names and shapes in every process.
        to_float: Reduce integers as floats, so that tensors of different types can travel together.
    """
    if op not in ('sum', 'mean'):
        raise UserValueError(f'op must be sum or mean, not {op!r}')
    if get_world_size(group) == 1:
        return py_dict
    names = sorted(py_dict)
    values = [py_dict[name].float() if to_float else py_dict[name] for name in names]
    flat = torch.cat([value.flatten() for value in values])
    all_reduce(flat, op=op, group=group)
    parts = flat.split([value.numel() for value in values])
    reduced = {name: part.view_as(value) for name, part, value in zip(names, parts, values, strict=True)}
    return OrderedDict((name, reduced[name]) for name in py_dict)


def allreduce_grads(params: Iterable[Parameter], coalesce: bool = True, bucket_size_mb: int = -1) -> None:
    """Average gradients over processes, in place.

    Args:
        coalesce: Send the gradients of one dtype together, in pieces of ``bucket_size_mb`` where that is positive.
    """
    world_size = get_world_size()
    grads = [p.grad.data for p in params if p.requires_grad and p.grad is not None]
    if world_size == 1:
        return
    for bucket in _buckets(grads, bucket_size_mb) if coalesce else [[grad] for grad in grads]:
        flat = _flatten_dense_tensors(bucket)
        all_reduce(flat, op='mean')
        for grad, synced in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            grad.copy_(synced)


def _buckets(tensors: list[Tensor], size_mb: int) -> Iterable[list[Tensor]]:
    limit = size_mb * 2**20 if size_mb > 0 else float('inf')
    open_buckets: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        bucket = open_buckets.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(t.numel() * t.element_size() for t in bucket) >= limit:
            yield open_buckets.pop(tensor.dtype)
    yield from open_buckets.values()


def sync_random_seed(seed: int | None = None, device: str = 'cuda') -> int:
    """A seed that all processes share: that of rank 0, drawn there if none is given."""
    if seed is None:
        seed = int(np.random.randint(2**31))
    rank, world_size = get_dist_info()
    if world_size == 1:
        return seed
    shared = torch.tensor(seed if rank == 0 else 0, dtype=torch.int64)
    broadcast(shared)
    return int(shared)
