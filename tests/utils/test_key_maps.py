"""Weights of torchvision's detectors and detectron2's names in our models."""

import pytest
import torch

from mmdet.config import load_config
from mmdet.engine.weights import load_weights
from mmdet.utils.key_maps import COCO_IDS, translate_state_dict

pytestmark = pytest.mark.usefixtures('default_scope')

CONFIGS = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'faster': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'ssd': 'ssd/ssd300_coco.py',
    'c4': 'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
    'cascade': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'vitdet': 'vitdet/mask-rcnn_vit-b-mae_lsj-100e_coco.py',
}
SMALL_VITDET = {
    'model.backbone.depth': 2,
    'model.backbone.embed_dim': 48,
    'model.backbone.window_block_indexes': [0],
    'model.neck.backbone_channel': 48,
    'model.neck.in_channels': [12, 24, 48, 48],
}
GN, BN = dict(type='GN', num_groups=32), dict(type='BN')
CONV4 = dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=BN)
# torchvision's first RetinaNet has P6 on P5, its second on C5 as ours; both have a ReLU before P7
P6_ON_P5 = {'model.neck.add_extra_convs': 'on_output', 'model.neck.relu_before_extra_convs': True}
CASES = {
    'retinanet_resnet50_fpn': ('retinanet', P6_ON_P5),
    'retinanet_resnet50_fpn_v2': ('retinanet', {'model.bbox_head.norm_cfg': GN}),
    'fcos_resnet50_fpn': ('fcos', {'model.bbox_head.conv_bias': True}),
    'fasterrcnn_resnet50_fpn': ('faster', {}),
    'maskrcnn_resnet50_fpn': ('mask', {}),
    'fasterrcnn_resnet50_fpn_v2': (
        'faster',
        {'model.neck.norm_cfg': BN, 'model.rpn_head.num_convs': 2, 'model.roi_head.bbox_head': CONV4},
    ),
    'maskrcnn_resnet50_fpn_v2': (
        'mask',
        {
            'model.neck.norm_cfg': BN,
            'model.rpn_head.num_convs': 2,
            'model.roi_head.bbox_head': CONV4,
            'model.roi_head.mask_head.norm_cfg': BN,
        },
    ),
    'ssd300_vgg16': ('ssd', {}),
}


def build(kind, options):
    from pathlib import Path

    from mmdet.registry import MODELS

    root = Path(__file__).resolve().parents[2] / 'configs'
    cfg = load_config(root / CONFIGS[kind], options)
    if 'neck' in cfg.model and 'norm_cfg' in cfg.model.neck and cfg.model.neck.norm_cfg.type == 'BN':
        cfg.model.neck.no_norm_on_lateral = False
    cfg.model.backbone.pop('init_cfg', None)
    return MODELS.build(cfg.model)


def torchvision_model(name):
    import torchvision

    settings = dict(weights=None, weights_backbone=None, num_classes=91)
    return getattr(torchvision.models.detection, name)(**settings)


@pytest.fixture(autouse=True)
def _no_random_initialisation(monkeypatch):
    """Weights come from a state dict: drawing 40 million normal numbers first only takes time."""
    from torch.nn import init

    for name in ('normal_', 'kaiming_normal_', 'kaiming_uniform_', 'xavier_uniform_', 'uniform_', 'trunc_normal_'):
        monkeypatch.setattr(init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.mark.parametrize('name', CASES)
def test_torchvision_detector_fills_the_model(name):
    kind, options = CASES[name]
    state = torchvision_model(name).state_dict()
    generator = torch.Generator().manual_seed(0)
    for value in state.values():
        if value.dtype.is_floating_point:
            value.copy_(torch.rand(value.shape, generator=generator))
    model = build(kind, options)
    report = load_weights(model, state)
    assert report.key_map.startswith('torchvision')
    assert report.wrong_shape == []
    assert [name for name in report.missing if 'scales' not in name] == []  # FCOS's scales are 1 in torchvision
    assert report.unexpected == []
    own = model.state_dict()
    if kind == 'retinanet':
        theirs = state['head.classification_head.cls_logits.weight'].reshape(9, 91, 256, 3, 3)
        assert torch.equal(own['bbox_head.retina_cls.weight'].reshape(9, 80, 256, 3, 3), theirs[:, COCO_IDS])
        assert torch.equal(own['bbox_head.retina_reg.bias'], state['head.regression_head.bbox_reg.bias'])
    if kind in ('faster', 'mask'):
        theirs = state['roi_heads.box_predictor.cls_score.bias']
        assert torch.equal(own['roi_head.bbox_head.fc_cls.bias'], theirs[[*COCO_IDS, 0]])
        theirs = state['roi_heads.box_predictor.bbox_pred.bias'].reshape(91, 4)
        assert torch.equal(own['roi_head.bbox_head.fc_reg.bias'].reshape(80, 4), theirs[COCO_IDS])
    if kind == 'ssd':
        theirs = state['head.classification_head.module_list.0.bias'].reshape(4, 91)
        assert torch.equal(own['bbox_head.cls_convs.0.0.bias'].reshape(4, 81), theirs[:, [*COCO_IDS, 0]])


def test_translated_retinanet_computes_what_torchvision_computes():
    """The same features, scores and deltas, for the 80 classes of COCO."""
    theirs = torchvision_model('retinanet_resnet50_fpn').eval()
    generator = torch.Generator().manual_seed(0)
    for value in theirs.state_dict().values():
        if value.dtype.is_floating_point:
            scale = 0.06 if value.dim() == 4 else 1.0
            value.copy_(torch.rand(value.shape, generator=generator) * scale - scale / 2 * (value.dim() == 4))
    for name, value in theirs.state_dict().items():
        if name.endswith('running_var'):
            value.add_(20.0)  # keeps the activations small
    ours = build('retinanet', P6_ON_P5).eval()
    load_weights(ours, theirs.state_dict())
    image = torch.rand(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        outputs = theirs.head(list(theirs.backbone(image).values()))
        scores, deltas = ours.bbox_head(ours.neck(ours.backbone(image)))
    ours_scores = torch.cat([s.reshape(9, 80, -1).permute(2, 0, 1).reshape(-1, 80) for s in scores])
    ours_deltas = torch.cat([d.reshape(9, 4, -1).permute(2, 0, 1).reshape(-1, 4) for d in deltas])
    torch.testing.assert_close(ours_scores, outputs['cls_logits'][0][:, COCO_IDS], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours_deltas, outputs['bbox_regression'][0], rtol=1e-4, atol=1e-4)


def detectron2_names(own, kind):
    """State dicts of detectron2's zoo, by its names, with values to recognise them."""
    import re

    vitdet = [
        (r'backbone\.(.+)', r'backbone.net.\1'),
        (r'neck\.fpn1\.(.+)', r'backbone.simfp_2.\1'),
        (r'neck\.fpn2\.(.+)', r'backbone.simfp_3.\1'),
        *[
            (rf'neck\.{convs}\.{level}\.{kind}\.(.+)', rf'backbone.simfp_{level + 2}.{place}.{norm}\1')
            for convs, places in (('lateral_convs', (4, 1, 0, 1)), ('fpn_convs', (5, 2, 1, 2)))
            for level, place in enumerate(places)
            for kind, norm in (('conv', ''), ('ln', 'norm.'))
        ],
        (r'rpn_head\.rpn_conv\.(\d)\.conv\.(.+)', r'proposal_generator.rpn_head.conv.conv\1.\2'),
        (r'roi_head\.bbox_head\.shared_convs\.(\d)\.conv\.(.+)', r'roi_heads.box_head.conv<\1+1>.\2'),
        (r'roi_head\.bbox_head\.shared_convs\.(\d)\.ln\.(.+)', r'roi_heads.box_head.conv<\1+1>.norm.\2'),
        (r'roi_head\.mask_head\.convs\.(\d)\.ln\.(.+)', r'roi_heads.mask_head.mask_fcn<\1+1>.norm.\2'),
    ]
    renames = [
        *(vitdet if kind == 'vitdet' else []),
        (r'backbone\.(conv1)\.weight', r'backbone.bottom_up.stem.conv1.weight'),
        (r'backbone\.bn1\.(.+)', r'backbone.bottom_up.stem.conv1.norm.\1'),
        (r'backbone\.layer(\d)\.(\d+)\.downsample\.0\.(.+)', r'backbone.bottom_up.res<\1+1>.\2.shortcut.\3'),
        (r'backbone\.layer(\d)\.(\d+)\.downsample\.1\.(.+)', r'backbone.bottom_up.res<\1+1>.\2.shortcut.norm.\3'),
        (r'backbone\.layer(\d)\.(\d+)\.conv(\d)\.(.+)', r'backbone.bottom_up.res<\1+1>.\2.conv\3.\4'),
        (r'backbone\.layer(\d)\.(\d+)\.bn(\d)\.(.+)', r'backbone.bottom_up.res<\1+1>.\2.conv\3.norm.\4'),
        (r'roi_head\.shared_head\.layer4\.(\d+)\.downsample\.0\.(.+)', r'roi_heads.res5.\1.shortcut.\2'),
        (r'roi_head\.shared_head\.layer4\.(\d+)\.downsample\.1\.(.+)', r'roi_heads.res5.\1.shortcut.norm.\2'),
        (r'roi_head\.shared_head\.layer4\.(\d+)\.conv(\d)\.(.+)', r'roi_heads.res5.\1.conv\2.\3'),
        (r'roi_head\.shared_head\.layer4\.(\d+)\.bn(\d)\.(.+)', r'roi_heads.res5.\1.conv\2.norm.\3'),
        (r'roi_head\.bbox_head\.(\d)\.shared_fcs\.(\d)\.(.+)', r'roi_heads.box_head.\1.fc<\2+1>.\3'),
        (r'roi_head\.bbox_head\.(\d)\.fc_cls\.(.+)', r'roi_heads.box_predictor.\1.cls_score.\2'),
        (r'roi_head\.bbox_head\.(\d)\.fc_reg\.(.+)', r'roi_heads.box_predictor.\1.bbox_pred.\2'),
        (r'rpn_head\.rpn_conv\.(.+)', r'proposal_generator.rpn_head.conv.\1'),
        (r'rpn_head\.rpn_cls\.(.+)', r'proposal_generator.rpn_head.objectness_logits.\1'),
        (r'rpn_head\.rpn_reg\.(.+)', r'proposal_generator.rpn_head.anchor_deltas.\1'),
        (r'roi_head\.bbox_head\.shared_fcs\.(\d)\.(.+)', r'roi_heads.box_head.fc<\1+1>.\2'),
        (r'roi_head\.bbox_head\.fc_cls\.(.+)', r'roi_heads.box_predictor.cls_score.\1'),
        (r'roi_head\.bbox_head\.fc_reg\.(.+)', r'roi_heads.box_predictor.bbox_pred.\1'),
        (r'roi_head\.mask_head\.convs\.(\d)\.conv\.(.+)', r'roi_heads.mask_head.mask_fcn<\1+1>.\2'),
        (r'roi_head\.mask_head\.upsample\.(.+)', r'roi_heads.mask_head.deconv.\1'),
        (r'roi_head\.mask_head\.conv_logits\.(.+)', r'roi_heads.mask_head.predictor.\1'),
        (r'bbox_head\.cls_convs\.(\d)\.conv\.(.+)', r'head.cls_subnet.<\1*2>.\2'),
        (r'bbox_head\.reg_convs\.(\d)\.conv\.(.+)', r'head.bbox_subnet.<\1*2>.\2'),
        (r'bbox_head\.retina_cls\.(.+)', r'head.cls_score.\1'),
        (r'bbox_head\.retina_reg\.(.+)', r'head.bbox_pred.\1'),
        (r'neck\.lateral_convs\.(\d)\.conv\.(.+)', rf'backbone.fpn_lateral<\1+{3 if kind == "retinanet" else 2}>.\2'),
    ]
    if kind == 'retinanet':
        renames += [
            (r'neck\.fpn_convs\.([34])\.conv\.(.+)', r'backbone.top_block.p<\1+3>.\2'),
            (r'neck\.fpn_convs\.([012])\.conv\.(.+)', r'backbone.fpn_output<\1+3>.\2'),
        ]
    renames += [(r'neck\.fpn_convs\.(\d)\.conv\.(.+)', r'backbone.fpn_output<\1+2>.\2')]
    result = {'anchor_generator.cell_anchors.0': torch.zeros(3, 4), 'pixel_mean': torch.zeros(3, 1, 1)}
    for name, value in own.items():
        if name.endswith('num_batches_tracked'):
            continue
        for pattern, replacement in renames:
            match = re.fullmatch(pattern, name)
            if match:
                theirs = re.sub(
                    r'<(\d)([+*])(\d)>',
                    lambda m: str(eval(m.group(1) + m.group(2) + m.group(3))),
                    match.expand(replacement),
                )
                if kind == 'c4':
                    theirs = theirs.replace('backbone.bottom_up.', 'backbone.')
                result[theirs] = value.clone()
                break
        else:
            raise AssertionError(f'no name for {name}')
    return result


@pytest.mark.parametrize('kind', ['retinanet', 'faster', 'mask', 'c4', 'cascade', 'vitdet'])
def test_detectron2_names_fill_the_model(kind):
    model = build(kind, SMALL_VITDET if kind == 'vitdet' else {})
    own = {
        name: torch.rand_like(value) if value.dtype.is_floating_point else value
        for name, value in model.state_dict().items()
    }
    report = load_weights(model, detectron2_names(own, kind))
    assert (report.key_map, report.missing, report.wrong_shape, report.unexpected) == ('detectron2', [], [], [])
    loaded = model.state_dict()
    for name, value in own.items():
        if name.startswith('bbox_head.retina'):  # anchors by size, then ratio -> by ratio, then size
            value = value.reshape(3, 3, -1).transpose(0, 1).reshape(value.shape)
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(loaded[name], value), name


def test_names_of_nobody_stay(tmp_path):
    own = dict(a=torch.zeros(1))
    weights, source = translate_state_dict(dict(b=torch.ones(1)), own)
    assert source is None and list(weights) == ['b']


def test_pickle_of_detectron2_loads_and_cannot_run_code(tmp_path):
    import os
    import pickle

    import numpy as np

    from mmdet.engine.weights import state_dict_of
    from mmdet.utils.checkpoint import UnreadableCheckpointError, read_checkpoint

    content = dict(model={'pixel_mean': np.ones((3, 1, 1), np.float32)}, __author__='Detectron2 Model Zoo')
    for protocol in (2, 4):
        (tmp_path / 'model.pkl').write_bytes(pickle.dumps(content, protocol))
        assert state_dict_of(read_checkpoint(tmp_path / 'model.pkl'))['pixel_mean'].sum() == 3

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'attacked'),)

    (tmp_path / 'evil.pkl').write_bytes(pickle.dumps(dict(model=Evil())))
    with pytest.raises(UnreadableCheckpointError, match=r'refused: it asks for posix\.mkdir'):
        read_checkpoint(tmp_path / 'evil.pkl')
    assert not (tmp_path / 'attacked').exists()
