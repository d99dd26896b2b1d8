import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import ordering, stable_topk

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


@pytest.mark.parametrize(
    'values, k, largest, expected',
    [
        ([1, 2, 2, 2, 0], 2, True, [1, 2]),
        ([1, 2, 2, 2, 0], 4, True, [1, 2, 3, 0]),
        ([3, 1, 1, 0, 1], 2, False, [3, 1]),
        ([0.0, -0.0, 0.0], 2, True, [0, 1]),
        ([-1.0, -2.0, -1.0, -2.0], 1, False, [1]),
        ([float('inf'), 1, float('inf'), float('inf')], 3, False, [1, 0, 2]),
        ([-float('inf')] * 3, 2, True, [0, 1]),
        ([5, 5], 7, True, [0, 1]),
    ],
)
@pytest.mark.parametrize('device', DEVICES)
def test_the_first_of_equal_values_comes_first(device, values, k, largest, expected):
    values = torch.tensor(values, dtype=torch.float32, device=device)
    top, index = stable_topk(values, k, largest)
    assert index.tolist() == expected
    assert top.tolist() == values[index].tolist()


@pytest.mark.parametrize('largest', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.long])
@pytest.mark.parametrize('kinds', [1, 3, 40, 10**6])
@pytest.mark.parametrize('device', DEVICES)
def test_is_what_a_stable_sort_puts_first(device, kinds, dtype, largest):
    values = torch.randint(-kinds, kinds, (3, 4, 500), device=device).to(dtype)
    want, order = values.sort(dim=-1, descending=largest, stable=True)
    for topk in (stable_topk, ordering._topk_by_key):
        top, index = topk(values, 20, largest)
        assert torch.equal(index, order[..., :20]) and torch.equal(top, want[..., :20])


def test_does_not_look_at_what_is_on_another_device():
    with FakeTensorMode():
        top, index = stable_topk(torch.rand(2, 50), 5)
    assert top.shape == index.shape == (2, 5)
