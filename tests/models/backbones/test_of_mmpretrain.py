"""What detectors use of mmpretrain and timm, under the names that configs of MMDetection 3.x have for it."""

import sys

import pytest
import torch

from mmdet.config import load_config
from mmdet.models.backbones import ConvNeXt, TIMMBackbone
from mmdet.models.layers import LN2d
from mmdet.registry import MODELS, UnknownNameError, only_registered

TIMM = dict(type='mmpretrain.TIMMBackbone', model_name='mobilenetv3_small_050', features_only=True)


@pytest.mark.parametrize('scope', ['', 'mmpretrain.', 'mmcls.'])
@pytest.mark.parametrize('cls', [ConvNeXt, TIMMBackbone, LN2d])
def test_names(scope, cls):
    assert MODELS.get(scope + cls.__name__) is cls
    with only_registered():
        assert MODELS.get(scope + cls.__name__) is cls


def test_research_code_may_register_the_same_name(monkeypatch):
    monkeypatch.setattr(MODELS, '_module_dict', type(MODELS._module_dict)(MODELS._locations, ()))

    @MODELS.register_module(name='ConvNeXt')
    class Own(torch.nn.Module):
        pass

    assert MODELS.get('ConvNeXt') is Own
    assert MODELS.get('mmpretrain.ConvNeXt') is ConvNeXt


def test_what_mmpretrain_has_besides_is_not_promised():
    with pytest.raises(UnknownNameError, match='mmpretrain must be installed'):
        MODELS.get('mmpretrain.VisionTransformer')


@pytest.mark.parametrize('imports', ["['mmpretrain.models']", "'mmcls.models'", "['mmpretrain.models', 'json']"])
def test_configs_that_import_mmpretrain_are_read(tmp_path, imports, recwarn):
    (tmp_path / 'config.py').write_text(f'custom_imports = dict(imports={imports}, allow_failed_imports=False)')
    load_config(tmp_path / 'config.py')
    assert not [warning for warning in recwarn if 'failed to import' in str(warning.message)]


def test_other_imports_still_fail(tmp_path):
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['mmpretrain.models', 'no_such_module'])")
    with pytest.raises(ImportError, match='no_such_module'):
        load_config(tmp_path / 'config.py')


def test_convnext_as_a_classifier_gives_means(default_scope):
    torch.manual_seed(0)
    arch = dict(depths=(1, 1), channels=(8, 16))
    model = ConvNeXt(arch, out_indices=(0, 1)).eval()
    maps = ConvNeXt(arch, out_indices=(0, 1), gap_before_final_norm=False).eval()
    maps.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert [tuple(out.shape) for out in model(x)] == [(2, 8), (2, 16)]
    maps.norm1 = model.norm1 = torch.nn.Identity()
    torch.testing.assert_close(model(x)[1], maps(x)[1].mean((2, 3)))


def test_paths_of_the_last_convnext_block_are_dropped_most():
    model = ConvNeXt(dict(depths=(2, 3), channels=(8, 16)), drop_path_rate=0.8)
    rates = [getattr(block.drop_path, 'drop_prob', 0) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize(
    ('arch', 'millions'),
    [('tiny', 28.6), ('small', 50.2), ('base', 88.6), ('large', 197.8), ('xlarge', 350.2)],  # Table 9 of the paper
)
def test_size_of_convnext(arch, millions):
    with torch.device('meta'):
        model = ConvNeXt(arch)
    classifier = 1000 * (model.channels[-1] + 1)
    assert (sum(p.numel() for p in model.parameters()) + classifier) / 1e6 == pytest.approx(millions, abs=0.06)


def test_response_normalisation_starts_as_nothing(default_scope):
    plain, normalised = (ConvNeXt(dict(depths=(1,), channels=(8,)), use_grn=use) for use in (False, True))
    normalised.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(plain(x), normalised(x))
    grn = normalised.stages[0][0].grn
    torch.nn.init.ones_(grn.gamma)
    x = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])  # (B, H, W, C) with norms 5 and 0 of the two channels
    grn.gamma, grn.beta = (torch.nn.Parameter(torch.full((2,), value)) for value in (1.0, 0.5))
    torch.testing.assert_close(grn(x), torch.tensor([[[[9.5, 0.5]], [[12.5, 0.5]]]]), rtol=1e-5, atol=1e-5)


def test_timm_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r'^TIMMBackbone needs timm: pip install timm'):
        MODELS.build(TIMM)


class TestTimm:
    @pytest.fixture(autouse=True)
    def needs_timm(self, default_scope):
        self.timm = pytest.importorskip('timm', reason='timm is optional')

    @pytest.mark.parametrize(
        ('name', 'options'),
        [
            ('mobilenetv3_small_050', dict(out_indices=(1, 2, 3))),
            ('resnet18', dict(norm_layer='IN')),
            ('pvt_v2_b0', {}),
            ('convnext_atto', {}),
            ('swin_tiny_patch4_window7_224', {}),  # which gives its channels last
            ('vit_tiny_patch16_224', {}),
        ],
    )
    def test_maps_of_any_size(self, name, options):
        model = MODELS.build(dict(TIMM, model_name=name, **options)).eval()
        assert all(key.startswith('timm_model.') for key in model.state_dict())
        with torch.no_grad():
            maps = model(torch.randn(1, 3, 64, 96))
        assert [x.shape[1] for x in maps] == list(model.feature_channels)
        strides = model.timm_model.feature_info.reduction()
        assert [tuple(x.shape[2:]) for x in maps] == [(64 // stride, 96 // stride) for stride in strides]
        assert len(maps) == len(options.get('out_indices', strides))
        if 'norm_layer' in options:
            assert any(isinstance(module, torch.nn.InstanceNorm2d) for module in model.modules())

    def test_one_map_without_features_only(self):
        model = MODELS.build(dict(TIMM, features_only=False, in_channels=1)).eval()
        (last,) = model(torch.randn(1, 1, 64, 64))
        assert tuple(last.shape) == (1, *model.feature_channels, 2, 2)

    def test_weights_of_a_file_are_loaded_when_weights_are_initialised(self, tmp_path):
        given = self.timm.create_model('mobilenetv3_small_050', features_only=True)
        torch.save(given.state_dict(), tmp_path / 'weights.pth')
        model = MODELS.build(dict(TIMM, checkpoint_path=str(tmp_path / 'weights.pth')))
        assert not torch.equal(model.timm_model.conv_stem.weight, given.conv_stem.weight)
        model.init_weights()
        for name, value in given.state_dict().items():
            assert torch.equal(model.timm_model.state_dict()[name], value), name

    def test_published_weights_are_fetched_when_weights_are_initialised(self, monkeypatch):
        create, asked = self.timm.create_model, []

        def create_model(*args, pretrained=False, **kwargs):
            asked.append(pretrained)
            if pretrained:
                raise OSError('no connection.\nTry again')
            return create(*args, **kwargs)

        monkeypatch.setattr(self.timm, 'create_model', create_model)
        model = MODELS.build(dict(TIMM, pretrained=True))
        assert not any(asked)
        with pytest.raises(RuntimeError, match=r'from the hub: no connection. Give a file as checkpoint_path'):
            model.init_weights()

    def test_initial_weights_stay_without_others(self):
        model = MODELS.build(TIMM)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.init_weights()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        MODELS.build(dict(TIMM, init_cfg=dict(type='Constant', val=2, layer='Conv2d'))).init_weights()

    @pytest.mark.parametrize(
        ('options', 'error', 'message'),
        [
            (dict(model_name='resnet19'), KeyError, "has no network 'resnet19'. Did you mean resnet18"),
            (dict(model_name='hf-hub:some/model'), KeyError, 'has no network'),
            (dict(features_only=False, out_indices=(1, 2)), ValueError, 'needs features_only=True'),
            (dict(pretrained='a.pth'), ValueError, 'given by checkpoint_path'),
            (dict(no_such_option=1), TypeError, 'no_such_option'),
            (
                dict(model_name='vit_tiny_patch16_224', depth=1),
                ValueError,
                'timm cannot make vit_tiny_patch16_224 with',
            ),
        ],
    )
    def test_wrong_arguments(self, options, error, message):
        with pytest.raises(error, match=message):
            MODELS.build({**TIMM, **options})

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(model_name='beit_base_patch16_224', depth=3), 'takes no pictures of 32x32: '),
            (dict(model_name='vit_tiny_patch16_224', features_only=False, depth=1), 'set features_only=True'),
        ],
    )
    def test_maps_that_cannot_be(self, options, message):
        with pytest.raises(ValueError, match=message):
            MODELS.build({**TIMM, **options})(torch.randn(1, 3, 32, 32))

    def test_channels_are_compared_with_the_neck(self):
        from mmdet.testing import get_detector_cfg

        cfg = get_detector_cfg('timm_example/retinanet_timm-efficientnet-b1_fpn_1x_coco.py')
        cfg.backbone.update(model_name=TIMM['model_name'])
        with torch.device('meta'):
            with pytest.raises(ValueError, match=r'FPN was made for .* gives \[8, 16, 24, 288\]: set in_channels'):
                MODELS.build(cfg)
            cfg.neck.in_channels = [8, 16, 24, 288]
            assert MODELS.build(cfg).backbone.timm_model.feature_info.channels() == cfg.neck.in_channels
