"""Two processes over gloo, one of them without an object: losses share their normalisers and nobody waits forever."""

import os
import socket

import pytest
import torch
from mask_table import MASK_HEADS
from torch import nn

NAMES = [
    'RetinaHead',
    'ATSSHead',
    'FCOSHead center',
    'GFLHead',
    'PAAHead',
    'AutoAssignHead',
    'FSAFHead',
    'RTMDetHead',
    'RTMDetSepBNHead',
    'TOODHead',
    'TOODHead initial',
    'YOLOXHead',
    'VFNetHead',
    'VFNetHead points',
    'DDODHead',
    'FoveaHead align',
    'NASFCOSHead',
    'FreeAnchorRetinaHead',
    'YOLOFHead',
]
QUERY_NAMES = ['DETRHead', 'DeformableDETRHead of two stages', 'DINOHead', 'DDQDETRHead']
MASK_NAMES = list(MASK_HEADS)
MASK_QUERY_NAMES = ['MaskFormerHead', 'Mask2FormerHead']
ALL = NAMES + QUERY_NAMES + MASK_NAMES + MASK_QUERY_NAMES


class Step(nn.Module):
    """A head whose call is its loss, so that DistributedDataParallel sees the backward pass."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, feats, samples):
        from head_table import totals

        losses = totals(self.head.loss(feats, samples))
        return sum(value for key, value in losses.items() if 'loss' in key)


class QueryStep(nn.Module):
    """The same of a head with queries; the branches of the encoder are called by the detector alone."""

    def __init__(self, name):
        from test_query_heads import build

        super().__init__()
        self.name, self.head = name, build(name)

    def forward(self, kinds):
        from test_query_heads import loss_of

        return sum(loss_of(self.head, self.name, *kinds).values())


def work(rank, port, results):
    from datetime import timedelta

    import torch.distributed as dist
    from head_table import build_head, features, samples
    from mask_query_table import build_mask_head, mask_samples
    from mask_query_table import maps as feature_maps
    from mask_table import build_heads, maps, masked_samples
    from mmengine.registry import init_default_scope

    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=2, timeout=timedelta(seconds=50))
    init_default_scope('mmdet')
    for name in ALL:
        kinds = ('empty', 'empty') if rank else ('many', 'one')
        if name in QUERY_NAMES:
            step, inputs = QueryStep(name), (kinds,)
        elif name in MASK_NAMES:
            step, inputs = Step(build_heads(name)), (maps(name, 2, seed=rank), masked_samples(*kinds))
        elif name in MASK_QUERY_NAMES:
            step, inputs = Step(build_mask_head(name)), (feature_maps(2, seed=rank), mask_samples(*kinds))
        else:
            step, inputs = Step(build_head(name)), (features(2, seed=rank), samples(*kinds))
        step = nn.parallel.DistributedDataParallel(step, find_unused_parameters=name in QUERY_NAMES)
        loss = step(*inputs)
        loss.backward()
        grads = [parameter.grad for parameter in step.parameters()]
        norm = sum(grad.abs().sum() for grad in grads if grad is not None)
        results.put((name, rank, float(loss), float(norm)))
    dist.destroy_process_group()


def test_a_rank_without_objects():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context('spawn')
    results = context.SimpleQueue()
    torch.multiprocessing.start_processes(work, (port, results), nprocs=2, start_method='spawn')
    found = {}
    while not results.empty():
        name, rank, loss, norm = results.get()
        found[name, rank] = loss, norm
    assert len(found) == 2 * len(ALL)
    for name in ALL:
        (loss, norm), (other_loss, other_norm) = found[name, 0], found[name, 1]
        assert loss > 0
        assert torch.tensor([loss, other_loss, norm]).isfinite().all(), name
        assert norm == pytest.approx(other_norm), name  # the gradient is that of both
