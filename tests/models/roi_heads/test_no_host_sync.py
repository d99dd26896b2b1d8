"""A training step of a two-stage detector never makes the host wait for a GPU: on fake ones, and on a real one."""

import pytest
import torch
from fake_gpu import WaitingCopies
from torch._subclasses.fake_tensor import FakeTensorMode
from two_stage_table import MATCHING, TABLE, build, images, predicted, sample, total

from mmdet.models.core import set_matching

pytestmark = pytest.mark.usefixtures('default_scope')

# Dynamic R-CNN adapts its thresholds on the host; the batch norms of double heads must not see empty slots.
NAMES = [name for name in TABLE if name not in ('Dynamic', 'Double')]


def samples():
    found = [sample(3, 0), sample(0, 1)]
    for one in found:
        if 'masks' in one.gt_instances:
            one.gt_instances.masks = one.gt_instances.masks.packed()
    return found


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('name', NAMES)
def test_the_host_never_waits(name, monkeypatch):
    """But for a matching, which it solves: once, for all stages and images."""
    free = lambda host, shapes, counts, copies: torch.zeros(sum(n * q for n, q, _ in shapes), dtype=torch.int32)
    monkeypatch.setattr(set_matching, 'solve_on_host', free)
    real, pictures = samples(), images()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build(name).train()
        for module in model.modules():
            for tensors, kind in ((module._parameters, torch.nn.Parameter), (module._buffers, torch.Tensor.detach)):
                tensors.update({key: kind(x.detach().to('cuda')) for key, x in tensors.items() if x is not None})
        inputs, data = pictures.to('cuda'), [one.to('cuda') for one in real]
        with WaitingCopies() as copies:
            _, loss = total(model.loss(inputs, data))
        assert loss.device.type == 'cuda'
    assert len(copies.found) == (name in MATCHING), copies.found


@pytest.mark.gpu
@pytest.mark.parametrize('name', [name for name in NAMES if name not in MATCHING])
def test_the_host_does_not_wait_for_this_gpu(name):
    model = build(name).train().cuda()
    inputs, data = images().cuda(), [one.to('cuda') for one in samples()]
    total(model.loss(inputs, data))[1].backward()  # fills the caches of priors
    torch.cuda.set_sync_debug_mode('error')
    try:
        total(model.loss(inputs, data))[1].backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
@pytest.mark.parametrize('name', TABLE)
def test_a_gpu_detects_what_the_cpu_detects(name):
    model = build(name).eval()
    with torch.no_grad():
        want = model.predict(images(), [sample(1), sample(0)], rescale=True)
        found = model.cuda().predict(images().cuda(), [sample(1).cuda(), sample(0).cuda()], rescale=True)
    for result, expected in zip(found, want):
        result, expected = predicted(result).cpu(), predicted(expected)
        if 'sem_seg' in expected:
            assert (result.sem_seg != expected.sem_seg).float().mean() < 0.02
            continue
        torch.testing.assert_close(result.scores, expected.scores, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(result.bboxes, expected.bboxes, rtol=1e-3, atol=0.1)
