"""The kernels of deformable attention give the numbers of the way that is taken without them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet.ops import multi_scale_deform_attn as module

CASES = [
    # sizes of levels, points of each, heads, channels of a head, queries, nearest cells
    ([(5, 7), (2, 3)], [2, 2], 2, 8, 9, False),
    ([(5, 7), (1, 1)], [3, 1], 2, 24, 17, False),
    ([(4, 3)], [4], 1, 32, 5, False),
    ([(5, 7), (1, 1)], [1, 3], 2, 24, 9, True),
    ([(4, 3), (2, 2)], [1, 1], 2, 8, 0, False),
]


def case(shapes, points, heads, channels, queries, device='cpu', dtype=torch.float32):
    """Two images; some locations lie on borders and corners of cells, some far away."""
    generator = torch.Generator().manual_seed(channels)
    cells = sum(height * width for height, width in shapes)
    value = torch.randn(2, cells, heads, channels, generator=generator).to(device, dtype)
    locations = torch.rand(2, queries, heads, sum(points), 2, generator=generator) * 1.6 - 0.3
    for query, place in enumerate((0.0, 1.0, 0.5, -1e9, 1e9)[:queries]):
        locations[0, query, 0] = place
    weights = torch.rand(2, queries, heads, sum(points), generator=generator)
    return value, locations.to(device), weights.to(device)


def results(function, tensors, slope):
    """Sums and the gradients of all three inputs."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    out.backward(slope.to(out))
    return out.detach(), *(leaf.grad for leaf in leaves)


def expected(tensors, slope, shapes, points, nearest):
    """In double precision, of the numbers that the kernels are given."""
    plain = lambda *tensors: module._sums_by_level(tensors[0], shapes, *tensors[1:], points, nearest)
    return results(plain, [tensor.double().cpu() for tensor in tensors], slope.double().cpu())


def slope_of(value, locations):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*locations.shape[:2], value[0, 0].numel(), generator=generator).to(value)


def assert_equal(found, wanted, atol=1e-4):
    for have, want in zip(found, wanted, strict=True):
        assert (have is None) == (want is None)
        if have is not None:
            rtol, atol = (1e-5, atol) if have.dtype == torch.float32 else (2e-2, 2e-2)
            torch.testing.assert_close(have.double().cpu(), want, rtol=rtol, atol=atol)


def check(shapes, points, heads, channels, queries, nearest, device='cpu', dtype=torch.float32, atol=1e-4):
    tensors = case(shapes, points, heads, channels, queries, device, dtype)
    sizes = [size for shape in shapes for size in shape]
    function = lambda *tensors: module.deformable_sums(*tensors, sizes, points, nearest)
    slope = slope_of(*tensors[:2])
    found = results(function, tensors, slope)
    assert [grad.dtype for grad in found if grad is not None] == [dtype, dtype, *[torch.float32] * (2 - nearest)]
    assert_equal(found, expected(tensors, slope, shapes, points, nearest), atol)


def check_surroundings(device='cpu'):
    """Layouts, types, transforms of torch."""
    shapes, points, *rest, nearest = CASES[1]
    value, locations, weights = case(shapes, points, *rest, device)
    sizes = [5, 7, 1, 1]
    call = lambda *tensors: module.deformable_sums(*tensors, sizes, points, nearest)
    out = call(value, locations, weights)

    turned = [tensor.transpose(0, 2).contiguous().transpose(0, 2) for tensor in (value, locations, weights)]
    assert not turned[0].is_contiguous()
    wide = slope_of(value, locations).transpose(1, 2).contiguous().transpose(1, 2)
    assert_equal(results(call, turned, wide), expected(turned, wide, shapes, points, nearest))

    with torch.autocast(device, torch.bfloat16):
        assert call(value.bfloat16(), locations, weights.bfloat16()).dtype == torch.bfloat16
        assert call(value, locations, weights).dtype == torch.float32
    torch.testing.assert_close(call(value, locations.double().float(), weights.half()), out, rtol=1e-2, atol=1e-2)

    leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
    torch.library.opcheck(module.deformable_sums, (*leaves, sizes, points, nearest))
    torch.library.opcheck(module.deformable_sums, (leaves[0], locations, weights, sizes, points, True))
    compiled = torch.compile(call, backend='aot_eager', fullgraph=True)
    slope = slope_of(value, locations)
    assert_equal(results(compiled, leaves, slope), expected(leaves, slope, shapes, points, nearest))

    grads = torch.autograd.grad(call(*leaves).square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match='deformable_sums_backward'):
        grads[0].sum().backward()


INTERPRETED = """
import torch
from test_multi_scale_deform_attn_kernel import CASES, check, check_surroundings
for case in CASES:
    check(*case)
check(*CASES[0], dtype=torch.bfloat16)
check_surroundings()
"""


def test_the_kernels_in_the_interpreter(interpret):
    interpret(INTERPRETED)


class Names(TorchDispatchMode):
    """The operators that were called."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.called = {*getattr(self, 'called', ()), function.overloadpacket.__name__}
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'device, dtype, deterministic, chosen',
    [
        ('cuda', torch.bfloat16, False, True),
        ('cuda', torch.float32, False, True),
        ('cuda', torch.float32, True, False),
        ('cuda', torch.float64, False, False),
        ('cpu', torch.float32, False, False),
    ],
)
@pytest.mark.parametrize('nearest', [False, True])
def test_where_the_kernels_are_taken(monkeypatch, device, dtype, deterministic, chosen, nearest):
    monkeypatch.setattr('mmdet.ops.compiled.has_triton', lambda: True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        with FakeTensorMode(), Names() as names:
            value = torch.empty(2, 10, 2, 8, dtype=dtype, device=device)
            locations, weights = torch.empty(2, 3, 2, 4, 2, device=device), torch.empty(2, 3, 2, 4, device=device)
            out = module.sampled_sums(value, [(2, 3), (2, 2)], locations, weights, [1, 3], nearest)
            whole = module.multi_scale_deformable_attn(
                value, [(2, 3), (2, 2)], None, locations.unflatten(3, (2, 2)), weights.unflatten(3, (2, 2))
            )
    finally:
        torch.use_deterministic_algorithms(before)
    assert out.shape == whole.shape == (2, 3, 16)
    assert ('deformable_sums' in names.called) is chosen
    assert ('grid_sampler_2d' in names.called) is not chosen


def test_large_images_go_without_kernels(monkeypatch):
    monkeypatch.setattr('mmdet.ops.compiled.has_triton', lambda: True)
    with FakeTensorMode():
        sampling = torch.empty(1, 1, 8, 4, 2, device='cuda'), torch.empty(1, 1, 8, 4, device='cuda')
        for cells, fits in ((2**23 - 1, True), (2**23, False)):  # 32 bits are those of an image, not of a batch
            assert module._has_kernel(torch.empty(512, cells, 8, 32, device='cuda'), *sampling) is fits


@pytest.mark.parametrize('strict', [False, True])
def test_exported_graphs_hold_no_kernel(monkeypatch, strict):
    monkeypatch.setattr('mmdet.ops.compiled.has_triton', lambda: True)

    class Attention(torch.nn.Module):
        def forward(self, *tensors):
            return module.sampled_sums(tensors[0], [(2, 3), (2, 2)], *tensors[1:], [1, 3])

    with FakeTensorMode():
        shapes = (2, 10, 2, 8), (2, 3, 2, 4, 2), (2, 3, 2, 4)
        graph = torch.export.export(
            Attention(), tuple(torch.empty(shape, device='cuda') for shape in shapes), strict=strict
        ).graph
    assert not any('deformable_sums' in str(node.target) for node in graph.nodes)


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('case', CASES)
def test_the_kernels_on_a_gpu(case, dtype):
    check(*case, 'cuda', dtype)


def compiled_attention(device):
    """One graph of attention under autocast, its operators, and the output."""
    names: list[str] = []

    def backend(graph, inputs):
        names.extend(str(node.target) for node in graph.graph.nodes if node.op == 'call_function')
        return graph

    with torch.device(device):
        attention = module.MultiScaleDeformableAttention(
            embed_dims=32, num_heads=4, num_levels=2, num_points=2, batch_first=True
        )
        query, value, places = torch.rand(2, 5, 32), torch.rand(2, 20, 32), torch.rand(2, 5, 2, 2)
    call = lambda query, value, places: attention(
        query, value=value, reference_points=places, spatial_shapes=[(4, 4), (2, 2)], level_start_index=None
    )
    torch._dynamo.reset()
    with torch.autocast(device, torch.bfloat16, enabled=torch.cuda.is_available()):
        out = torch.compile(call, backend=backend, fullgraph=True)(query, value, places)
    torch._dynamo.reset()
    return names, out


def test_compiled_graphs_hold_the_kernel(monkeypatch, _fake_gpu):
    monkeypatch.setattr('mmdet.ops.compiled.has_triton', lambda: True)
    with FakeTensorMode():
        names, out = compiled_attention('cuda')
    assert any('deformable_sums' in name for name in names) and out.shape == (2, 5, 32)


@pytest.mark.gpu
def test_compiled_graphs_hold_the_kernel_on_a_gpu():
    assert any('deformable_sums' in name for name in compiled_attention('cuda')[0])


@pytest.mark.gpu
def test_the_surroundings_on_a_gpu():
    check_surroundings('cuda')


@pytest.mark.gpu
@pytest.mark.parametrize('nearest', [False, True])
def test_many_queries_on_a_gpu(nearest):
    # Places in cells, of which there are many, have fewer digits, and so have the slopes of places.
    check([(40, 50), (20, 25), (10, 13)], [3, 6, 3], 8, 32, 900, nearest, 'cuda', atol=1e-2)
