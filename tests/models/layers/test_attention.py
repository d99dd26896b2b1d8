"""Attention, and what encoders keep for the backward pass."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.layers.transformer import DetrTransformerEncoderLayer
from mmdet.models.layers.transformer.attention import MultiheadAttention
from mmdet.models.layers.transformer.detr_layers import RECOMPUTE_FROM

DIMS = 16
FFN = dict(embed_dims=DIMS, feedforward_channels=8, num_fcs=2, ffn_drop=0.0)
ATTENTION = dict(embed_dims=DIMS, num_heads=2, dropout=0.0, batch_first=True)


@pytest.mark.parametrize('padding', [False, True])
@pytest.mark.parametrize('mask', [None, 'bool', 'float', 'of each head'])
@pytest.mark.parametrize('within', [False, True])
def test_masks_of_attention_are_those_of_torch(within, mask, padding, monkeypatch):
    torch.manual_seed(0)
    own = MultiheadAttention(DIMS, 2, batch_first=True, bias=within)
    monkeypatch.setattr(own, '_in_one_product', lambda query: True)  # as on a GPU
    query = torch.randn(2, 5, DIMS, requires_grad=True)
    key = query if within else torch.randn(2, 5, DIMS)
    masks = {'bool': torch.eye(5).bool(), 'float': torch.randn(5, 5), 'of each head': torch.rand(4, 5, 5) > 0.8}
    attn_mask, padded = masks.get(mask), torch.arange(5).expand(2, 5) > 3 if padding else None
    found = own(query, key, attn_mask=attn_mask, key_padding_mask=padded)
    if mask == 'float' and padding:
        padded = torch.zeros(2, 5).masked_fill(padded, -torch.inf)
    turned = query.transpose(0, 1), key.transpose(0, 1), key.transpose(0, 1)
    wanted = own.attn(*turned, padded, need_weights=False, attn_mask=attn_mask)[0].transpose(0, 1) + query
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    slopes = [torch.autograd.grad(out.square().sum(), [query, own.attn.in_proj_weight]) for out in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)


def test_hooks_see_where_queries_look():
    own, seen = MultiheadAttention(DIMS, 2, batch_first=True).eval(), []
    query, key = torch.randn(2, 3, DIMS), torch.randn(2, 5, DIMS)
    wanted = own(query, key)
    hook = own.attn.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[1]))
    torch.testing.assert_close(own(query, key), wanted)
    hook.remove()
    own(query, key)
    (weights,) = seen
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))  # of five keys each


def test_large_feed_forward_blocks_keep_nothing_on_a_gpu(monkeypatch):
    plain, frugal = (DetrTransformerEncoderLayer(ATTENTION, {**FFN, 'ffn_drop': 0.5}) for _ in range(2))
    frugal.load_state_dict(plain.state_dict())
    monkeypatch.setattr(frugal, '_has_large_ffn', lambda query: True)
    x, kept = torch.randn(2, 5, DIMS), []
    for layer in (plain, frugal):
        kept.append(0)

        def keep(value, kept=kept):
            kept[-1] += value.numel()
            return value

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            out = layer(x, x, None)
        out.square().sum().backward()
    assert kept[1] < kept[0]
    for a, b in zip(plain.parameters(), frugal.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_which_feed_forward_blocks_are_large():
    layer = DetrTransformerEncoderLayer(ATTENTION, FFN)
    rows = RECOMPUTE_FROM // FFN['feedforward_channels']
    with FakeTensorMode():
        for device, size, large in (('cuda', rows, True), ('cuda', rows - 1, False), ('cpu', rows, False)):
            assert layer._has_large_ffn(torch.empty(1, size, DIMS, device=device)) is large
