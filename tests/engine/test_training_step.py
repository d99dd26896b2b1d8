"""Between two log intervals the engine never makes the host wait for a GPU: a whole step on fake tensors of one."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from fake_gpu import WaitingCopies
from mmengine.config import ConfigDict
from small_detector import SMALL
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.engine.hooks import RuntimeInfoHook
from mmdet.registry import MODELS, OPTIM_WRAPPERS

sys.path.insert(0, str(Path(__file__).parents[1] / 'models' / 'roi_heads'))
import two_stage_table

pytestmark = pytest.mark.usefixtures('default_scope', '_fake_gpu')


def detector(name):
    return MODELS.build(ConfigDict(copy.deepcopy(SMALL))) if name == 'Retina' else two_stage_table.build(name)


def to_fake_gpu(model):
    for module in model.modules():
        for tensors, kind in ((module._parameters, torch.nn.Parameter), (module._buffers, torch.Tensor.detach)):
            tensors.update({key: kind(x.detach().to('cuda')) for key, x in tensors.items() if x is not None})
    model.data_preprocessor._device = torch.device('cuda')
    return model


def batch(pinned=False):
    samples = [two_stage_table.sample(count, seed) for seed, count in enumerate((3, 0))]
    for sample in samples:
        sample.gt_instances.masks = sample.gt_instances.masks.packed()
    images = [torch.zeros(3, *two_stage_table.IMAGE, dtype=torch.uint8) for _ in samples]
    return dict(inputs=[image.pin_memory() if pinned else image for image in images], data_samples=samples)


def give_gradients(model):
    """In the place of autograd's engine, which has threads for devices that exist."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


CLIP = dict(max_norm=35, norm_type=2)
WRAPPERS = [dict(type='OptimWrapper'), dict(type='AmpOptimWrapper', dtype='bfloat16')]


class Unread:
    """In the place of the numbers that the host reads when the backward pass is queued."""

    def __init__(self, *values):
        pass

    def get(self):
        return 0.0, 0.0


@pytest.mark.parametrize('wrapper', WRAPPERS, ids=lambda wrapper: wrapper['type'])
@pytest.mark.parametrize(
    ('name', 'clip'), [('Retina', CLIP), ('Retina', None), ('Faster', CLIP), ('Mask', CLIP)], ids=str
)
@pytest.mark.filterwarnings('ignore:CUDA is not available')
def test_a_whole_step_never_waits(name, clip, wrapper, monkeypatch):
    monkeypatch.setattr('mmdet.engine.optimizers.optim_wrapper._Numbers', Unread)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: self)
    monkeypatch.setattr('mmdet.engine.optimizers.optim_wrapper.get_device', lambda: 'cuda')
    batches = [batch(), batch()]
    hook = RuntimeInfoHook()
    hook._epoch_length = hook.interval
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = to_fake_gpu(detector(name).train())
        monkeypatch.setattr(torch.Tensor, 'backward', lambda loss: give_gradients(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        wrapped = OPTIM_WRAPPERS.build(dict(wrapper, optimizer=optimizer, clip_grad=clip))
        wrapped.stop_on_nonfinite_loss = True
        for data in batches:  # the second has momentum
            with WaitingCopies() as copies:
                logged = model.train_step(data, wrapped)
                hook.after_train_iter(None, 0, outputs=logged)
            assert not copies.found
    assert logged['loss'].device.type == 'cuda' and len(hook._losses) == 2
    assert wrapped._unread_norm.device.type == 'cuda' and len(wrapped.pending_norms) == (2 if clip else 0)


@pytest.mark.gpu
@pytest.mark.parametrize('wrapper', WRAPPERS, ids=lambda wrapper: wrapper['type'])
@pytest.mark.parametrize('name', ['Retina', 'Faster', 'Mask'])
@pytest.mark.parametrize('fused', [False, True])
def test_a_whole_step_does_not_wait_for_this_gpu(name, wrapper, fused):
    first, data = batch(pinned=True), batch(pinned=True)
    model = detector(name).train().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    wrapped = OPTIM_WRAPPERS.build(dict(wrapper, optimizer=optimizer, clip_grad=CLIP))
    wrapped.stop_on_nonfinite_loss = True  # reads with Event.synchronize, which the mode below lets through
    model.train_step(first, wrapped)
    torch.cuda.set_sync_debug_mode('error')
    try:
        model.train_step(data, wrapped)
    finally:
        torch.cuda.set_sync_debug_mode('default')
