"""ViTDet's backbone beside sums over single cells, and beside that of `transformers`."""

import math

import pytest
import torch
from torch.nn.functional import pad

from mmdet.engine.weights import load_weights
from mmdet.models.backbones import ViT
from mmdet.models.backbones import vitdet as module
from mmdet.models.backbones.vitdet import RelativeAttention, ViTBlock, relative_rows

SIZES = [(64, 64), (96, 80)]


def attention(size=(3, 2)):
    torch.manual_seed(0)
    attn = RelativeAttention(8, 2, size)
    for value in (attn.rel_pos_h, attn.rel_pos_w):
        torch.nn.init.normal_(value)
    return attn


def test_rows_of_distances():
    table = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    assert relative_rows(table, 3)[..., 0].tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
    assert relative_rows(table, 2)[..., 0].allclose(torch.tensor([[0.0, -5 / 3], [5 / 3, 0.0]]))  # rows 1/3, 2, 11/3


def test_biases_cell_by_cell():
    attn, x = attention(), torch.randn(1, 3, 2, 8)
    query, key, value = attn.qkv(x).reshape(6, 3, 2, 4).permute(1, 2, 0, 3)  # (heads, 6, 4) each
    want = torch.zeros(6, 2, 4)
    for head in range(2):
        for a in range(6):
            logits = []
            for b in range(6):
                by_row = attn.rel_pos_h[a // 2 - b // 2 + 2]
                by_column = attn.rel_pos_w[a % 2 - b % 2 + 1]
                q = query[head, a]
                logits.append(q @ key[head, b] / math.sqrt(4) + q @ by_row + q @ by_column)
            want[a, head] = torch.stack(logits).softmax(0) @ value[head]
    torch.testing.assert_close(attn(x), attn.proj(want.flatten(1)).view(1, 3, 2, 8), rtol=1e-4, atol=1e-5)


def test_biases_within_the_product_are_the_same(monkeypatch):
    attn, x = attention((4, 4)), torch.randn(2, 5, 3, 8)  # tables of another size, too
    results = []
    for largest in (module.LARGEST_BIAS, 0):
        monkeypatch.setattr(module, 'LARGEST_BIAS', largest)
        attn.zero_grad()
        out = attn(x)
        out.square().sum().backward()
        results.append([out, *(p.grad.clone() for p in attn.parameters())])
    for plain, folded in zip(*results, strict=True):
        torch.testing.assert_close(plain, folded, rtol=1e-4, atol=1e-4)


def test_windows_are_pictures_of_their_own():
    torch.manual_seed(0)
    block = ViTBlock(8, 2, 2.0, True, 0.0, dict(type='LN'), dict(type='GELU'), 3, (3, 3))
    x = torch.randn(1, 4, 6, 8)
    windows = pad(block.norm1(x), (0, 0, 0, 0, 0, 2))
    seen = torch.zeros(1, 6, 6, 8)
    for top in (0, 3):
        for left in (0, 3):
            where = (slice(None), slice(top, top + 3), slice(left, left + 3))
            seen[where] = block.attn(windows[where])
    want = x + seen[:, :4]
    torch.testing.assert_close(block(x), want + block.mlp(block.norm2(want)))


def test_checkpointing_changes_no_number():
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        model = ViT(img_size=32, patch_size=8, embed_dim=8, num_heads=2, depth=2, use_act_checkpoint=again).train()
        model(torch.linspace(-1, 1, 3 * 32 * 24).view(1, 3, 32, 24))[0].square().mean().backward()
        results.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_reads_a_file_of_mae(tmp_path):
    shape = dict(img_size=32, patch_size=8, embed_dim=8, num_heads=2, depth=1, pretrain_img_size=32)
    source = ViT(**shape)
    weights = {name: torch.randn_like(value) for name, value in source.state_dict().items()}
    torch.save(dict(model={**weights, 'cls_token': torch.zeros(1, 1, 8)}), tmp_path / 'mae.pth')
    model = ViT(**shape, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mae.pth')))
    model.init_weights()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    'options',
    [
        dict(embed_dim=24, num_heads=3, window_size=3, window_block_indexes=(0, 2), use_rel_pos=True),
        dict(embed_dim=32, num_heads=2, window_size=0, window_block_indexes=(), use_rel_pos=False, qkv_bias=False),
    ],
)
def test_same_as_transformers(options):
    transformers = pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')
    config = transformers.VitDetConfig(
        hidden_size=options['embed_dim'],
        num_hidden_layers=3,
        num_attention_heads=options['num_heads'],
        mlp_ratio=2,
        image_size=64,
        pretrain_image_size=32,
        patch_size=8,
        qkv_bias=options.get('qkv_bias', True),
        use_relative_position_embeddings=options['use_rel_pos'],
        window_block_indices=list(options['window_block_indexes']),
        window_size=options['window_size'],
        out_features=['stage3'],
    )
    torch.manual_seed(0)
    theirs = transformers.VitDetBackbone(config).eval()
    for value in theirs.parameters():
        torch.nn.init.normal_(value, std=0.3)
    ours = ViT(img_size=64, patch_size=8, pretrain_img_size=32, depth=3, mlp_ratio=2, **options).eval()
    report = load_weights(ours, theirs.state_dict())
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    assert report.key_map == 'transformers ViTDet'
    for size in SIZES:
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            (found,), (want,) = ours(images), theirs(images).feature_maps
        assert (found - want).abs().max() < 1e-4
