"""Compiled networks, with the compiler's front end alone: no code is generated."""

import copy
import io

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from small_detector import SMALL
from torch import nn
from toy_runs import build, fingerprint, toy_config

from mmdet.engine.acceleration import optimize_for_inference
from mmdet.engine.compilation import CompiledCall, compile_networks, compile_options, is_compiled, networks
from mmdet.ops.winograd import WinogradConv2d
from mmdet.registry import MODELS

EAGER = dict(backend='eager')


@pytest.fixture(autouse=True)
def _fresh():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small(**options):
    model = MODELS.build(ConfigDict(copy.deepcopy(SMALL)))
    if options:
        compile_networks(model, options)
    return model


def graphs(model):
    return {name: module._compiled_call_impl.graphs for name, module in networks(model)}


def heads_call(model, *size):
    """As losses and predictions call the networks."""
    images = torch.randn(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(1))
    return model.bbox_head(model.extract_feat(images))


def test_what_is_compiled():
    class RoIHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.bbox_head = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.mask_head = nn.Sequential(nn.Linear(2, 2))
            self.loss = nn.L1Loss()

    model = nn.Module()
    model.backbone, model.neck, model.rpn_head, model.roi_head = nn.ReLU(), nn.ReLU(), nn.ReLU(), RoIHead()
    model.neck.backbone = nn.ReLU()  # part of the neck's call
    wrapped = nn.Module()
    wrapped.module = model
    heads = ('roi_head.bbox_head.0', 'roi_head.bbox_head.1', 'roi_head.mask_head')
    assert compile_networks(wrapped, EAGER) == [f'module.{name}' for name in ('backbone', 'neck', 'rpn_head', *heads)]
    assert model.roi_head.loss._compiled_call_impl is None


def test_the_same_outputs_gradients_and_names():
    plain, compiled = small(), small(**EAGER)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(compiled.state_dict())
    for model in (plain, compiled):
        sum(level.square().mean() for levels in heads_call(model, 2, 64, 96) for level in levels).backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert graphs(compiled) == dict(backbone=1, neck=1, bbox_head=1)


def test_copies_and_pickles_are_plain_and_of_their_own():
    model = small(**EAGER)
    heads_call(model, 2, 64, 64)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert not is_compiled(other)
        for parameter in other.parameters():
            parameter.data.zero_()
        assert all(level.unique().numel() == 1 for level in heads_call(other, 2, 64, 64)[0])
    assert is_compiled(model) and heads_call(model, 2, 64, 64)[0][0].unique().numel() > 1


SIZES = [(2, 64, 96), (2, 96, 64), (2, 64, 64), (2, 128, 96), (3, 96, 96), (2, 64, 96), (4, 32, 160), (1, 64, 96)]


@pytest.mark.parametrize(('dynamic', 'bound'), [(None, 3), (True, 2)])
def test_sizes_do_not_compile_again_and_again(dynamic, bound):
    """Fixed, then any, and one picture alone, for which compilers make an own graph."""
    model = small(**EAGER, dynamic=dynamic)
    for size in SIZES:
        heads_call(model, *size)
    assert graphs(model) == dict.fromkeys(graphs(model), bound)
    model.eval()
    with torch.no_grad():
        for size in SIZES:
            heads_call(model, *size)
    assert max(graphs(model).values()) <= bound + 2


def test_fixed_sizes_stay_fixed():
    model = small(**EAGER)
    for batch in (2, 2, 3, 4):
        heads_call(model, batch, 64, 96)
    assert graphs(model) == dict.fromkeys(graphs(model), 2)
    assert model.backbone._compiled_call_impl._axes == (0,)


def test_many_modules_of_one_class_have_limits_of_their_own():
    model = nn.Module()
    model.bbox_head = nn.ModuleList(nn.Linear(4, 4) for _ in range(torch._dynamo.config.recompile_limit + 2))
    compile_networks(model, EAGER)
    for head in model.bbox_head:
        head(torch.randn(2, 4))
    assert set(graphs(model).values()) == {1}


def test_sizes_of_levels_are_numbers_in_a_graph():
    """As tensors they would break it, or a kernel would be left out, depending on the version of torch."""
    attention = MODELS.build(
        dict(type='MultiScaleDeformableAttention', embed_dims=32, num_heads=4, num_levels=2, batch_first=True)
    ).eval()
    sizes = dict(spatial_shapes=torch.tensor([[4, 4], [2, 2]]), level_start_index=torch.tensor([0, 16]))
    values = dict(value=torch.rand(2, 20, 32), reference_points=torch.rand(2, 5, 2, 2))
    query, found = torch.rand(2, 5, 32), []

    def backend(graph, inputs):
        found.extend(inputs)
        return graph

    expected = attention(query, **values, **sizes)
    torch.testing.assert_close(
        CompiledCall('attention', attention, dict(backend=backend))(query, **values, **sizes), expected
    )
    assert any(x.dtype == torch.long for x in found if isinstance(x, torch.Tensor))  # of what is not ours
    found.clear()
    attention._compiled_call_impl = CompiledCall('own', attention._call_impl, dict(backend=backend, fullgraph=True))
    torch.testing.assert_close(attention(query, **values, **sizes), expected)
    assert all(x.dtype == torch.float32 for x in found if isinstance(x, torch.Tensor))
    assert all(isinstance(value, torch.Tensor) for value in sizes.values())


@pytest.mark.parametrize(
    'options, marks',
    [
        (dict(mode='reduce-overhead'), 2),
        (dict(options={'triton.cudagraphs': True}), 2),
        (dict(mode='default'), 0),
        ({}, 0),
    ],
)
def test_each_call_of_the_backbone_begins_a_step_of_cuda_graphs(monkeypatch, options, marks):
    begun = []
    monkeypatch.setattr('torch.compiler.cudagraph_mark_step_begin', lambda: begun.append(True))
    monkeypatch.setattr('torch.compile', lambda function, **_: function)
    model = small(**options) if options else small(dynamic=None)
    for _ in range(2):
        heads_call(model, 1, 32, 32)
    assert len(begun) == marks


def test_too_many_compilations_are_told(monkeypatch):
    said = []
    monkeypatch.setattr('mmdet.engine.compilation.print_log', lambda text, *args: said.append(text))
    monkeypatch.setattr('mmdet.engine.compilation.MANY', 3)
    model = small(**EAGER, dynamic=False)
    for height in (32, 64, 96):
        heads_call(model, 2, height, 64)
    assert graphs(model)['backbone'] == 3
    assert sum('backbone was compiled 3 times' in text for text in said) == 1
    assert any(text.startswith('compiled backbone for 2x3x32x64 in ') for text in said)


@pytest.mark.parametrize(
    ('value', 'error', 'message'),
    [('yes', TypeError, "not 'yes'"), (dict(backent='eager'), ValueError, "'backent'.*nearest: 'backend'")],
)
def test_wrong_values(value, error, message):
    with pytest.raises(error, match=message):
        compile_options(value)


def test_a_compiled_run_has_the_checkpoints_of_a_plain_one(tmp_path):
    plain, compiled = (build(toy_config(tmp_path / str(c), compile=c)) for c in (False, EAGER))
    runs = [fingerprint(runner) for runner in (plain, compiled) if runner.train() is not None]
    assert is_compiled(compiled.model) and not is_compiled(plain.model)
    assert compiled.model.backbone._compiled_call_impl.graphs > 0
    assert runs[0] == runs[1]
    a, b = (torch.load(tmp_path / str(c) / 'epoch_3.pth', weights_only=True) for c in (False, EAGER))
    assert list(a['state_dict']) == list(b['state_dict'])


def test_fused_and_compiled_leave_winograd_out():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128))
    optimize_for_inference(model, 'fuse', EAGER)
    assert isinstance(model.backbone._compiled_call_impl, CompiledCall)
    assert isinstance(model.backbone[1], nn.Identity)
    assert not any(isinstance(module, WinogradConv2d) for module in model.modules())
