import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmdet.utils import all_reduce_dict, allreduce_grads, obj2tensor, reduce_mean, sync_random_seed, tensor2obj


def test_one_process_gives_back_what_it_gets():
    value = torch.tensor([3.0])
    assert reduce_mean(value) is value
    table = {'a': value}
    assert all_reduce_dict(table) is table
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    allreduce_grads([parameter])
    assert parameter.grad.tolist() == [1]
    assert sync_random_seed(5) == 5
    with pytest.raises(ValueError, match="'max'"):
        all_reduce_dict(table, op='max')


def test_objects_as_tensors():
    value = {'names': ['a', 'b'], 'number': 3}
    assert tensor2obj(obj2tensor(value, device='cpu')) == value


def _work(rank, port):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group('gloo', rank=rank, world_size=2)
    value = torch.tensor([2.0 * rank])
    assert reduce_mean(value).tolist() == [1] and value.tolist() == [2 * rank]

    order = ('b', 'a') if rank else ('a', 'b')  # the order of the keys may differ
    table = {name: torch.full((2,), rank + ord(name)) for name in order}
    mean = all_reduce_dict(table, op='mean')
    assert list(mean) == list(order) and mean['a'].tolist() == [97.5, 97.5] and mean['b'].tolist() == [98.5, 98.5]

    for options in ({}, {'coalesce': False}, {'bucket_size_mb': 1}):
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3,), (2, 2))]
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, float(rank))
        allreduce_grads([*parameters, torch.nn.Parameter(torch.zeros(1))], **options)
        assert all((parameter.grad == 0.5).all() for parameter in parameters)
    seed = torch.tensor([sync_random_seed()])
    both = [torch.zeros_like(seed) for _ in range(2)]
    dist.all_gather(both, seed)
    assert both[0] == both[1]
    dist.destroy_process_group()


def test_two_processes():
    import socket

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    mp.spawn(_work, args=(port,), nprocs=2)
