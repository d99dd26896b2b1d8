import pytest
import torch

from mmdet.models.backbones import SwinTransformer
from mmdet.models.backbones.swin import ShiftWindowMSA, WindowMSA, swin_converter
from mmdet.models.layers import PatchMerging

SMALL = dict(embed_dims=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4))


def test_relative_positions_of_a_window_of_two():
    index = WindowMSA(4, 1, (2, 2)).relative_position_index
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_attention_is_softmax_of_scores_bias_and_mask():
    torch.manual_seed(0)
    attention = WindowMSA(8, 2, (2, 2))
    attention.relative_position_bias_table.data.normal_()
    x = torch.randn(6, 4, 8)  # 3 images of 2 windows
    mask = torch.tensor([[[0.0]], [[-100.0]]]) * torch.randint(0, 2, (2, 4, 4))
    q, k, v = attention.qkv(x).view(6, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / 2
    scores = scores + attention.relative_position_bias_table[attention.relative_position_index].permute(2, 0, 1)
    scores = scores + mask.repeat(3, 1, 1)[:, None]
    expected = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(6, 4, 8))
    torch.testing.assert_close(attention(x, mask), expected)


def test_pixels_that_the_shift_brought_together_do_not_see_each_other():
    """A change of the last row must not reach the first row of the image, two rows of windows away."""
    torch.manual_seed(0)
    attention = ShiftWindowMSA(4, 1, window_size=4, shift_size=2).eval()
    x = torch.randn(1, 8, 8, 4)
    changed = x.clone()
    changed[:, 7] += 1
    difference = (attention(x.flatten(1, 2), (8, 8)) - attention(changed.flatten(1, 2), (8, 8))).view(8, 8, 4)
    moved = difference.abs().amax(dim=(1, 2)) > 1e-6
    assert moved.tolist() == [False] * 6 + [True] * 2


def test_official_weights_are_converted(tmp_path):
    """The official merging concatenates (0,0), (1,0), (0,1), (1,1) with all channels each."""
    torch.manual_seed(0)
    channels = 3
    official = {
        'layers.0.downsample.reduction.weight': torch.randn(2 * channels, 4 * channels),
        'layers.0.downsample.norm.weight': torch.randn(4 * channels),
        'layers.0.downsample.norm.bias': torch.randn(4 * channels),
        'layers.0.blocks.1.attn.qkv.bias': torch.zeros(1),
        'layers.0.blocks.1.mlp.fc1.bias': torch.zeros(1),
        'layers.0.blocks.1.mlp.fc2.bias': torch.zeros(1),
        'patch_embed.proj.weight': torch.zeros(1),
        'head.weight': torch.zeros(1),
    }
    converted = swin_converter(official)
    assert set(converted) == {
        'backbone.stages.0.downsample.reduction.weight',
        'backbone.stages.0.downsample.norm.weight',
        'backbone.stages.0.downsample.norm.bias',
        'backbone.stages.0.blocks.1.attn.w_msa.qkv.bias',
        'backbone.stages.0.blocks.1.ffn.layers.0.0.bias',
        'backbone.stages.0.blocks.1.ffn.layers.1.bias',
        'backbone.patch_embed.projection.weight',
    }
    merging = PatchMerging(channels, 2 * channels)
    prefix = 'backbone.stages.0.downsample.'
    merging.load_state_dict({k.removeprefix(prefix): v for k, v in converted.items() if k.startswith(prefix)})
    x = torch.randn(1, 4, 6, channels)
    joined = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
    normed = torch.nn.functional.layer_norm(
        joined,
        (4 * channels,),
        official['layers.0.downsample.norm.weight'],
        official['layers.0.downsample.norm.bias'],
    )
    expected = (normed @ official['layers.0.downsample.reduction.weight'].T).flatten(1, 2)
    out, size = merging(x.flatten(1, 2), (4, 6))
    assert size == (2, 3)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('wrap', ['state_dict', 'model'])
def test_pretrained_weights_of_another_window_size(tmp_path, wrap):
    source = SwinTransformer(window_size=4, **SMALL)
    source.init_weights()
    path = tmp_path / 'swin.pth'
    torch.save({wrap: {f'backbone.{k}': v for k, v in source.state_dict().items()}}, path)
    model = SwinTransformer(window_size=7, init_cfg=dict(type='Pretrained', checkpoint=str(path)), **SMALL)
    model.init_weights()
    assert torch.equal(model.stages[1].downsample.reduction.weight, source.stages[1].downsample.reduction.weight)
    table = model.stages[0].blocks[1].attn.w_msa.relative_position_bias_table
    assert table.shape == (13 * 13, 1)
    assert table.abs().sum() > 0
    same = SwinTransformer(window_size=4, pretrained=str(path), **SMALL)
    same.init_weights()
    x = torch.randn(1, 3, 32, 32)
    for a, b in zip(source.eval()(x), same.eval()(x), strict=True):
        torch.testing.assert_close(a, b)
