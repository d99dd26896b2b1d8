import pytest
import torch

from mmdet.models.backbones import PyramidVisionTransformer, PyramidVisionTransformerV2
from mmdet.models.backbones.pvt import MixFFN, SpatialReductionAttention, pvt_convert

SMALL = dict(embed_dims=8, num_layers=[1, 1, 1, 1], pretrain_img_size=64)


def official(model):
    """The weights of ``model`` under the names of the official releases."""
    with_positions = isinstance(model, PyramidVisionTransformer) and not isinstance(model, PyramidVisionTransformerV2)
    last = 'layers.3' if with_positions else 'layers.4'
    out = {'cls_token': torch.zeros(1), 'head.weight': torch.zeros(1)}
    for name, value in model.state_dict().items():
        _, stage, part, rest = name.split('.', 3)
        number = int(stage) + 1
        if part == '0':
            out[f'patch_embed{number}.{rest.replace("projection", "proj")}'] = value
        elif part == '2':
            out[f'norm{number}.{rest}'] = value
        elif rest == '0.pos_embed':
            token = torch.full((1, 1, value.shape[2]), 7.0)
            out[f'pos_embed{number}'] = torch.cat([token, value], 1) if number == 4 else value
        else:
            index, rest = rest.split('.', 1)
            prefix = f'block{number}.{int(index) - with_positions}.'
            if 'in_proj' in rest:
                leaf = rest.rsplit('_', 1)[1]
                third = len(value) // 3
                out[f'{prefix}attn.q.{leaf}'], out[f'{prefix}attn.kv.{leaf}'] = value[:third], value[third:]
                continue
            for ours, theirs in (
                ('attn.attn.out_proj', 'attn.proj'),
                (f'ffn.{last}', 'mlp.fc2'),
                ('ffn.layers.0', 'mlp.fc1'),
                ('ffn.layers.1', 'mlp.dwconv.dwconv'),
            ):
                rest = rest.replace(ours, theirs)
            linear = 'fc' in rest and rest.endswith('weight')
            out[prefix + rest] = value[:, :, 0, 0] if linear else value
    return out


@pytest.mark.parametrize('cls', [PyramidVisionTransformer, PyramidVisionTransformerV2])
def test_official_weights_are_converted(cls, tmp_path):
    torch.manual_seed(0)
    model = cls(**SMALL)
    model.init_weights()
    weights = official(model)
    converted = pvt_convert(weights)
    assert converted.keys() == model.state_dict().keys()
    assert all(torch.equal(converted[name], value) for name, value in model.state_dict().items())
    torch.save(weights, tmp_path / 'pvt.pth')
    loaded = cls(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'pvt.pth')), **SMALL)
    loaded.init_weights()
    x = torch.randn(1, 3, 96, 64)  # another size than the position embedding's
    for a, b in zip(model.eval()(x), loaded.eval()(x), strict=True):
        torch.testing.assert_close(a, b)


def test_spatial_reduction_shortens_keys_and_values():
    torch.manual_seed(0)
    attention = SpatialReductionAttention(8, 2, sr_ratio=2)
    x = torch.randn(2, 24, 8)
    seen = []
    attention.attn.register_forward_pre_hook(lambda module, args: seen.append([a.shape[1] for a in args]))
    assert attention(x, (4, 6)).shape == x.shape
    assert seen == [[24, 6, 6]]


def test_mix_ffn_sees_neighbours_only_with_the_convolution():
    for use_conv in (False, True):
        torch.manual_seed(0)
        ffn = MixFFN(4, 8, use_conv=use_conv)
        x = torch.randn(1, 16, 4)
        changed = x.clone()
        changed[:, 5] += 1
        moved = (ffn(x, (4, 4)) - ffn(changed, (4, 4))).abs().amax(-1).flatten() > 1e-6
        assert moved.sum() == (9 if use_conv else 1)
