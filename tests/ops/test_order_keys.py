"""Keys of values by a kernel: those that the way without one makes."""

import pytest
import torch

from mmdet.models.core.ordering import _keys, stable_topk
from mmdet.ops.order_keys import order_keys


def values(dtype, device='cpu'):
    generator = torch.Generator().manual_seed(0)
    found = (torch.randn(3, 1500, generator=generator) * 4).round()
    found[0, :4] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf])
    return found.to(device, dtype)


def assert_right(dtype, device='cpu'):
    for largest in (True, False):
        assert order_keys(values(dtype, device), largest).cpu().equal(_keys(values(dtype), largest))
    assert order_keys(values(dtype, device)[0], True).cpu().equal(_keys(values(dtype)[0], True))


INTERPRETED = """
import torch
from test_order_keys import assert_right, order_keys, values
assert_right(torch.float32)
assert_right(torch.bfloat16)
torch.library.opcheck(order_keys, (values(torch.float16), False))
"""


def test_the_kernel_in_the_interpreter(interpret):
    interpret(INTERPRETED)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_keys_are_in_the_order_of_a_stable_sort(dtype):
    order = _keys(values(dtype), True).sort(descending=True).indices
    assert order.equal(values(dtype).sort(descending=True, stable=True).indices)


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_kernel_on_a_gpu(dtype):
    assert_right(dtype, 'cuda')
    for largest in (True, False):
        for found, want in zip(
            stable_topk(values(dtype, 'cuda'), 40, largest), stable_topk(values(dtype), 40, largest)
        ):
            assert found.cpu().equal(want)
