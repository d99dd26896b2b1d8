"""The converters as they are called; what they make of names is in tests/apis/test_old_weights.py."""

import pickle

import numpy as np
import pytest
import torch
from test_dataset_converters import tool

from mmdet.errors import UserFileError, UserKeyError
from mmdet.models.backbones import ResNet
from mmdet.utils.checkpoint import UnreadableCheckpointError, read_file


def convert(name, *args):
    return tool(f'model_converters/{name}').main([str(arg) for arg in args])


def test_publish_model(tmp_path, capsys):
    import hashlib

    torch.save(dict(meta=dict(epoch=3), state_dict=dict(w=torch.ones(2)), optimizer={}), tmp_path / 'in.pth')
    convert('publish_model', tmp_path / 'in.pth', tmp_path / 'out.pth')
    (path,) = tmp_path.glob('out-*.pth')
    assert path.stem == f'out-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}'
    assert set(read_file(path)) == {'meta', 'state_dict'}
    assert 'Left out: optimizer' in capsys.readouterr().out
    convert('publish_model', tmp_path / 'in.pth', tmp_path / 'light.safetensors', '--save-keys', 'state_dict')
    (path,) = tmp_path.glob('light-*.safetensors')
    assert read_file(path)['state_dict']['w'].tolist() == [1, 1]
    with pytest.raises(UserKeyError, match='has no ema, only meta'):
        convert('publish_model', tmp_path / 'in.pth', tmp_path / 'out.pth', '--save-keys', 'ema')
    assert not list(tmp_path.glob('.*'))


def test_detectron2pytorch_reads_what_python_2_has_written(tmp_path):
    blobs = {}
    for name, parameter in ResNet(50).named_parameters():
        parts = name.split('.')
        norm = 'bn' in name or '.downsample.1.' in name
        place = 'conv1' if not name.startswith('layer') else f'res{int(parts[0][5:]) + 1}_{parts[1]}_branch'
        if name.startswith('layer'):
            place += '1' if parts[2] == 'downsample' else f'2{"abc"[int(parts[2][-1]) - 1]}'
        end = f'_bn_{"s" if parts[-1] == "weight" else "b"}' if norm else '_w'
        place = 'res_conv1' if norm and place == 'conv1' else place
        blobs[place + end] = parameter.detach().numpy()
    with open(tmp_path / 'R-50.pkl', 'wb') as file:
        pickle.dump(dict(blobs=blobs), file, protocol=2)
    convert('detectron2pytorch', tmp_path / 'R-50.pkl', tmp_path / 'out.pth', 50)
    missing, unexpected = ResNet(50).load_state_dict(read_file(tmp_path / 'out.pth')['state_dict'], strict=False)
    assert not unexpected and all('num_batches' in name for name in missing)


@pytest.mark.parametrize(
    'name, content, args, wanted',
    [
        ('regnet2mmdet', dict(model_state={'s1.b1.f.a.weight': 0}), [], 'layer1.0.conv1.weight'),
        (
            'selfsup2mmdet',
            dict(state_dict={'module.encoder_q.conv1.weight': 0}),
            ['--selfsup', 'moco'],
            'conv1.weight',
        ),
        (
            'swinv1_to_mmdet',
            dict(model={'layers.0.blocks.1.mlp.fc1.weight': 0}),
            [],
            'backbone.stages.0.blocks.1.ffn.layers.0.0.weight',
        ),
        ('detectron2_to_mmdet', dict(model={'backbone.x': 0}), ['--prefix', 'net'], 'net.backbone.x'),
        (
            'upgrade_model_version',
            dict(meta={}, state_dict={'a.fc_cls.bias': 0}),
            ['--num-classes', 3],
            'a.fc_cls.bias',
        ),
        ('upgrade_ssd_version', dict(state_dict={'backbone.extra.3.bias': 0}), [], 'neck.extra_layers.1.1.conv.bias'),
    ],
)
def test_converters(name, content, args, wanted, tmp_path):
    value = torch.rand(2, 4)
    content = {key: {k: value for k in inner} if key != 'meta' else inner for key, inner in content.items()}
    torch.save(content, tmp_path / 'in.pth')
    convert(name, tmp_path / 'in.pth', tmp_path / 'out.pth', *args)
    weights = read_file(tmp_path / 'out.pth')['state_dict']
    assert list(weights) == [wanted] and weights[wanted].equal(value)
    with pytest.raises(UserFileError, match='There is no checkpoint'):
        convert(name, tmp_path / 'none.pth', tmp_path / 'out.pth', *args)


def test_detectron2_names_for_a_config(tmp_path):
    """As Detectron2 names them in its zoo, arrays in a pickle."""
    config = 'configs/retinanet/retinanet_r18_fpn_1x_coco.py'
    from mmdet.apis import init_detector

    detector = init_detector(config, None, device='cpu')
    theirs = {}
    for name, value in detector.state_dict().items():
        parts = name.split('.')
        if name.startswith('bbox_head.'):
            kind = {'retina_cls': 'cls_score', 'retina_reg': 'bbox_pred', 'cls_convs': 'cls_subnet'}
            first = kind.get(parts[1], 'bbox_subnet')
            middle = [str(2 * int(parts[2]))] if parts[1].endswith('convs') else []
            theirs['.'.join(['head', first, *middle, parts[-1]])] = value.numpy()
        elif name.startswith('neck.lateral'):
            theirs[f'backbone.fpn_lateral{int(parts[2]) + 3}.{parts[-1]}'] = value.numpy()
        elif name.startswith('backbone.layer') and parts[-1] != 'num_batches_tracked':
            part = {'downsample.0': 'shortcut', 'downsample.1': 'shortcut.norm'}.get('.'.join(parts[3:5]))
            part = part or (f'conv{parts[3][-1]}' + ('.norm' if parts[3].startswith('bn') else ''))
            theirs[f'backbone.bottom_up.res{int(parts[1][5:]) + 1}.{parts[2]}.{part}.{parts[-1]}'] = value.numpy()
    with open(tmp_path / 'd2.pkl', 'wb') as file:
        pickle.dump(dict(model=theirs, __author__='Detectron2'), file)
    convert('detectron2_to_mmdet', tmp_path / 'd2.pkl', tmp_path / 'out.pth', '--config', config)
    ours = read_file(tmp_path / 'out.pth')['state_dict']
    assert set(ours) == set(detector.state_dict())
    name = 'bbox_head.cls_convs.2.conv.weight'
    np.testing.assert_array_equal(ours[name], theirs['head.cls_subnet.4.weight'])


def test_code_in_a_file_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    with open(tmp_path / 'evil.pkl', 'wb') as file:
        pickle.dump(dict(blobs=Evil()), file)
    with pytest.raises(UnreadableCheckpointError):
        convert('detectron2pytorch', tmp_path / 'evil.pkl', tmp_path / 'out.pth', 50)
    assert not (tmp_path / 'ran').exists()
