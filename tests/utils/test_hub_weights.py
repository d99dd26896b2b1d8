"""Weights of `transformers`' models in ours: the same names, numbers and losses."""

import contextlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmdet.apis import init_detector
from mmdet.config import load_config
from mmdet.engine.weights import load_weights
from mmdet.errors import UserFileError
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils.checkpoint import UnreadableCheckpointError, read_checkpoint
from mmdet.utils.key_maps import COCO_IDS

transformers = pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')

pytestmark = pytest.mark.usefixtures('default_scope')

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('peers', ROOT / 'benchmarks' / 'transformers_peers.py')
peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)

CONFIGS = {
    'detr': 'detr/detr_r50_8xb2-150e_coco.py',
    'conditional': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'dab': 'dab_detr/dab-detr_r50_8xb2-50e_coco.py',
    'deformable': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'refine': 'deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py',
    'two-stage': 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
}
LIBRARIES = dict(detr='DETR', conditional='Conditional DETR', dab='DAB-DETR')
SMALL = dict(embed_dims=64, num_feats=32, feedforward_channels=48, num_layers=2, out_channels=64, num_queries=12)
DROPOUTS = ('dropout', 'ffn_drop', 'attn_drop', 'proj_drop')
SHAPES = [(96, 80), (72, 128)]  # of two images in a batch


def shrunk(file):
    """The model of a published config with fewer channels and layers, without dropout."""

    def shrink(part):
        if isinstance(part, dict):
            changed = {key: SMALL.get(key, 0.0 if key in DROPOUTS else shrink(value)) for key, value in part.items()}
            if part.get('batch_first') and 'num_heads' not in part:  # of points, whose default drops a tenth
                changed['dropout'] = 0.0
            return changed
        return part

    init_default_scope('mmdet')
    return shrink(load_config(ROOT / 'configs' / file).model.to_dict())


def small(name, classes=7, depth=18):
    cfg = shrunk(CONFIGS[name])
    cfg['backbone'].update(depth=depth, base_channels=8, init_cfg=None)
    widths = [8 * 2**i * (1 if depth < 50 else 4) for i in cfg['backbone']['out_indices']]
    cfg['neck']['in_channels'] = widths
    if cfg['neck']['norm_cfg']:
        cfg['neck']['bias'] = True  # theirs have one before the norm
    cfg['bbox_head'].update(num_classes=classes, embed_dims=64)
    return cfg


def randomise(model, seed=0):
    """Weights, and statistics of norms, that leave no signal out and let none grow."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            if name.endswith('running_var'):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.dim() > 1:
                value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
            else:
                value.add_(torch.randn(value.shape, generator=generator) * 0.1)
    return model.eval()


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def loaded(cfg, folder):
    ours = MODELS.build(cfg).eval()
    report = load_weights(ours, read_checkpoint(folder))
    return ours, report


def batch(shapes, seed=0):
    """Images of different sizes, padded at the right and below, as we and as they take them."""
    generator = torch.Generator().manual_seed(seed)
    padded = tuple(max(sizes) for sizes in zip(*shapes))
    images, inside, samples = torch.zeros(len(shapes), 3, *padded), torch.zeros(len(shapes), *padded).long(), []
    for image, mask, (height, width) in zip(images, inside, shapes):
        image[:, :height, :width] = torch.randn(3, height, width, generator=generator)
        mask[:height, :width] = 1
        meta = dict(img_shape=(height, width), ori_shape=(height, width), batch_input_shape=padded)
        samples.append(DetDataSample(metainfo=dict(**meta, scale_factor=(1.0, 1.0))))
    return dict(pixel_values=images, pixel_mask=inside), samples


def last_outputs(ours, inputs, samples):
    scores, boxes = ours(inputs['pixel_values'], samples, mode='tensor')[:2]
    return scores[-1], boxes[-1]


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
    cfg = small(request.param, depth=50 if request.param == 'detr' else 18)
    theirs = randomise(peers.peer_of(cfg))
    folder = saved(theirs, tmp_path_factory.mktemp(request.param))
    ours, report = loaded(cfg, folder)
    return request.param, cfg, theirs, ours, report, folder


def test_every_weight_is_used(pair):
    name, _, _, _, report, _ = pair
    assert report.key_map == f'transformers {LIBRARIES.get(name, "Deformable DETR")}'
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])


@pytest.mark.parametrize('shapes', [SHAPES, [(64, 64), (64, 64)]], ids=['padded', 'square'])
def test_same_outputs_and_detections(pair, shapes):
    name, _, theirs, ours, _, _ = pair
    inputs, samples = batch(shapes)
    with torch.no_grad():
        outputs = theirs(**inputs)
        scores, boxes = last_outputs(ours, inputs, samples)
        found = ours.predict(inputs['pixel_values'], samples)
    close(scores, outputs.logits)
    close(boxes, outputs.pred_boxes)
    by_softmax = name == 'detr'
    for index, ((height, width), sample) in enumerate(zip(shapes, found)):
        logits, place = outputs.logits[index], outputs.pred_boxes[index]
        if by_softmax:
            best, labels = logits.softmax(-1)[:, :-1].max(-1)
            best, queries = best.sort(descending=True)
            labels = labels[queries]
        else:
            best, order = logits.sigmoid().flatten().sort(descending=True)
            best, order = (x[: ours.bbox_head.test_cfg['max_per_img']] for x in (best, order))
            queries, labels = order // logits.shape[1], order % logits.shape[1]
        corners = torch.cat([place[:, :2] - place[:, 2:] / 2, place[:, :2] + place[:, 2:] / 2], 1)
        sizes = torch.tensor([width, height, width, height])
        corners = (corners * sizes).clamp(min=0).minimum(sizes)  # they leave boxes that reach out of the image
        close(sample.pred_instances.scores, best)
        assert torch.equal(sample.pred_instances.labels, labels)
        close(sample.pred_instances.bboxes, corners[queries], 0.01)


def test_same_losses(pair):
    _, cfg, theirs, ours, _, _ = pair
    inputs, samples = batch(SHAPES)
    generator = torch.Generator().manual_seed(1)
    labels = []
    for (height, width), sample, count in zip(SHAPES, samples, (3, 1)):
        sizes = torch.tensor([width, height])
        corner = torch.rand(count, 2, generator=generator) * 0.5
        side = torch.rand(count, 2, generator=generator) * 0.4 + 0.05
        classes = torch.randint(7, (count,), generator=generator)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner * sizes, (corner + side) * sizes], 1), labels=classes
        )
        labels.append(dict(class_labels=classes, boxes=torch.cat([corner + side / 2, side], 1)))
    with torch.no_grad():
        expected = theirs(**inputs, labels=labels).loss_dict
        found = ours.train().loss(inputs['pixel_values'], samples)
    ours.eval()
    head = cfg['bbox_head']
    for key, their_key in (('cls', 'ce'), ('bbox', 'bbox'), ('iou', 'giou')):
        value = found[f'loss_{key}'] / head[f'loss_{key}']['loss_weight']
        close(value, expected[f'loss_{their_key}'].squeeze())


# ------------------------------------------------------------------------------------------------ names and rows


def same(a, b):
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_names_of_the_state_dict_itself(pair):
    """Version 5 of transformers writes files with the names of version 4; its own names are others."""
    _, cfg, theirs, ours, _, folder = pair
    again = MODELS.build(cfg)
    report = load_weights(again, theirs.state_dict())
    assert set(theirs.state_dict()) != set(read_checkpoint(folder)['state_dict'])
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    same(again, ours)


@pytest.mark.parametrize('name', ['detr', 'deformable'])
def test_backbone_with_the_names_of_timm(name, tmp_path):
    cfg = small(name)
    cfg['backbone'].pop('base_channels')
    indices = [i + 1 for i in cfg['backbone']['out_indices']]
    cfg['neck']['in_channels'] = [32 * 2**i for i in indices]
    backbone = transformers.TimmBackboneConfig(
        backbone='resnet18', out_indices=indices, use_pretrained_backbone=False, features_only=True
    )
    theirs = randomise(peers.peer_of(cfg, backbone_config=backbone))
    ours, report = loaded(cfg, saved(theirs, tmp_path))
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    inputs, samples = batch(SHAPES)
    with torch.no_grad():
        close(last_outputs(ours, inputs, samples)[0], theirs(**inputs).logits)


@pytest.mark.parametrize('name', ['detr', 'conditional', 'deformable', 'two-stage'])
def test_eighty_classes_of_ninety_one_ids(name, tmp_path):
    cfg = small(name, classes=80)
    theirs = randomise(peers.peer_of(cfg, num_labels=91))
    ours, report = loaded(cfg, saved(theirs, tmp_path))
    assert report.wrong_shape == []
    inputs, samples = batch(SHAPES)
    with torch.no_grad():
        outputs = theirs(**inputs)
        scores, boxes = last_outputs(ours, inputs, samples)
    rows = [*COCO_IDS, 91] if name == 'detr' else COCO_IDS
    close(scores, outputs.logits[..., rows])
    close(boxes, outputs.pred_boxes)


def test_ninety_one_classes_stay_as_they_are(tmp_path):
    cfg = small('conditional', classes=91)
    theirs = randomise(peers.peer_of(cfg))
    ours, _ = loaded(cfg, saved(theirs, tmp_path))
    assert torch.equal(ours.bbox_head.fc_cls.weight, theirs.class_labels_classifier.weight)


def test_other_classes_and_names_are_reported(tmp_path):
    theirs = randomise(peers.peer_of(small('detr')))
    state = {f'detr.{name}': value for name, value in theirs.state_dict().items()}  # as the panoptic DETR has them
    state['mask_head.lay1.weight'] = torch.zeros(3)
    report = load_weights(MODELS.build(small('detr', classes=5)), state)
    assert [name for name, *_ in report.wrong_shape] == ['bbox_head.fc_cls.weight', 'bbox_head.fc_cls.bias']
    assert report.unexpected == ['mask_head.lay1.weight'] and report.missing == []
    assert 'names translated from transformers DETR' in str(report)


def test_other_weights_of_attention_are_reported():
    state = randomise(peers.peer_of(small('detr'))).state_dict()
    del state['model.encoder.layers.0.self_attn.k_proj.weight']
    report = load_weights(MODELS.build(small('detr')), state)
    assert report.missing == ['encoder.layers.0.self_attn.attn.in_proj_weight']
    assert {name.partition('@')[0] for name in report.unexpected} == {report.missing[0]}


# ------------------------------------------------------------------------------------------------ backbones

SWIN = dict(embed_dim=16, depths=[2, 2, 1, 1], num_heads=[1, 2, 4, 8], window_size=4)
CONVNEXT = dict(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1])
RESNET = dict(embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[3, 4, 6, 3])
STAGES = dict(out_features=['stage1', 'stage2', 'stage3', 'stage4'])
BACKBONES = {
    'Swin': (
        SWIN,
        dict(type='SwinTransformer', embed_dims=16, depths=(2, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=4),
    ),
    'ConvNext': (
        CONVNEXT,
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 32, 64]),
            out_indices=[0, 1, 2, 3],
            gap_before_final_norm=False,
        ),
    ),
    'ResNet': (RESNET, dict(type='ResNet', depth=50, base_channels=8)),
}


def backbone_of(name, file, **options):
    init_default_scope('mmdet')
    ours = MODELS.build(dict(BACKBONES[name][1], init_cfg=dict(type='Pretrained', checkpoint=str(file)), **options))
    ours.init_weights()
    return ours.eval()


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('suffix', ['', 'model.safetensors'], ids=['folder', 'file'])
def test_backbones_give_the_same_maps(name, suffix, tmp_path):
    options, _ = BACKBONES[name]
    config = getattr(transformers, f'{name}Config')(**options, **STAGES)
    theirs = randomise(getattr(transformers, f'{name}Backbone')(config))
    ours = backbone_of(name, saved(theirs, tmp_path) / suffix)
    image = torch.randn(2, 3, 168, 200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = ours(image), theirs(image).feature_maps
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.parametrize('name', BACKBONES)
def test_classifiers_start_backbones(name, tmp_path):
    config = getattr(transformers, f'{name}Config')(**BACKBONES[name][0])
    theirs = randomise(getattr(transformers, f'{name}ForImageClassification')(config))
    options = dict(convert_weights=True) if name == 'Swin' else {}  # as configs of Swin say for other files
    lacks = pytest.warns(UserWarning, match='lacks 8 weights of SwinTransformer, e.g. norm0.weight')
    with lacks if name == 'Swin' else contextlib.nullcontext():
        ours = backbone_of(name, saved(theirs, tmp_path), **options)
    image = torch.randn(1, 3, 168, 200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(image)[-1]
        last = theirs.base_model(image, output_hidden_states=True).hidden_states[-1]
        if name == 'Swin':  # the classifier's norm is for pooled features: those of the maps are new
            close(found, ours.norm3(last).transpose(1, 2).unflatten(2, found.shape[-2:]))
        elif name == 'ConvNext':  # which it is here, too
            assert torch.equal(ours.norm3.weight, theirs.convnext.layernorm.weight)
            close(found, ours.norm3(last))
        else:
            close(found, last)


def test_backbone_of_a_detector(pair):
    _, cfg, _, ours, _, folder = pair
    alone = MODELS.build(dict(cfg['backbone'], init_cfg=dict(type='Pretrained', checkpoint=str(folder))))
    alone.init_weights()
    same(alone, ours.backbone)


# ------------------------------------------------------------------------------------------------ masks

MASKS = {
    'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'mask2former of Swin': 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py',
    'maskformer of Swin': 'maskformer/maskformer_swin-l-p4-w12_64xb1-ms-300e_coco.py',
}


def mask_models(name):
    """The config of ours and a model of theirs."""
    cfg = shrunk(MASKS[name])
    head, of_swin = cfg['panoptic_head'], name.endswith('Swin')
    widths = [16 * 2**i for i in range(4)] if of_swin else [8 * 2**i for i in range(4)]
    head.update(in_channels=widths, feat_channels=64, num_things_classes=7, num_stuff_classes=0)
    head['loss_cls']['class_weight'] = [1.0] * 7 + [0.1]
    cfg['panoptic_fusion_head'].update(num_things_classes=7, num_stuff_classes=0)
    cfg['backbone'] = dict(BACKBONES['Swin'][1]) if of_swin else dict(type='ResNet', depth=18, base_channels=8)
    resnet = peers.resnet_of(dict(depth=18, base_channels=8, out_indices=range(4)))
    backbone = transformers.SwinConfig(**SWIN, **STAGES) if of_swin else resnet
    if name.startswith('mask2former'):
        config = transformers.Mask2FormerConfig(
            backbone_config=backbone,
            feature_size=64,
            mask_feature_size=64,
            hidden_dim=64,
            encoder_feedforward_dim=48,
            dim_feedforward=48,
            encoder_layers=2,
            decoder_layers=3,  # one more than there are
            num_queries=12,
            num_labels=7,
        )
        return cfg, transformers.Mask2FormerForUniversalSegmentation(config)
    decoder = transformers.DetrConfig(d_model=64, decoder_layers=2, decoder_ffn_dim=48, num_queries=12)
    config = transformers.MaskFormerConfig(
        fpn_feature_size=64, mask_feature_size=64, backbone_config=backbone, decoder_config=decoder, num_labels=7
    )
    return cfg, transformers.MaskFormerForInstanceSegmentation(config)


@pytest.mark.parametrize('shape', [(192, 160), (160, 224)])
@pytest.mark.parametrize('name', MASKS)
def test_same_masks(name, shape, tmp_path):
    cfg, theirs = mask_models(name)
    ours, report = loaded(cfg, saved(randomise(theirs), tmp_path))
    assert report.key_map == f'transformers {name.partition(" ")[0].replace("m", "M", 1).replace("f", "F")}'
    assert (report.missing, report.wrong_shape) == ([], [])
    unused = {name for name in report.unexpected if 'encoder.model.layernorm.' not in name}  # of a classifier
    assert {name for name in unused if 'swin.layernorm.' not in name} == {'criterion.empty_weight'}  # of the loss
    inputs, samples = batch([shape, shape])
    with torch.no_grad():
        scores, masks = ours.panoptic_head(ours.extract_feat(inputs['pixel_values']), samples)
        outputs = theirs(**inputs)
    close(scores[-1], outputs.class_queries_logits)
    close(masks[-1], outputs.masks_queries_logits)


# ------------------------------------------------------------------------------------------------ folders


def test_parts_of_a_file(tmp_path):
    theirs = randomise(peers.peer_of(small('detr')))
    theirs.save_pretrained(tmp_path, max_shard_size='300KB')
    assert len(list(tmp_path.glob('*.safetensors'))) > 1
    ours, report = loaded(small('detr'), tmp_path)
    assert (report.missing, report.unexpected) == ([], [])
    assert torch.equal(ours.bbox_head.fc_cls.weight, theirs.class_labels_classifier.weight)
    next(tmp_path.glob('*.safetensors')).unlink()
    with pytest.raises(UserFileError, match='is no checkpoint: it has no model-00001'):
        read_checkpoint(tmp_path)


def test_folders_that_are_no_checkpoints(tmp_path):
    with pytest.raises(UserFileError, match=r'is no checkpoint: it has no model\.safetensors'):
        read_checkpoint(tmp_path)
    saved(peers.peer_of(small('detr')), tmp_path)
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(UnreadableCheckpointError, match=r'config\.json is damaged or not a JSON file'):
        read_checkpoint(tmp_path)


def test_classes_are_those_of_the_folder(tmp_path):
    names = ['cat', 'dog', 'owl', 'emu', 'yak', 'fox', 'bat']
    theirs = peers.peer_of(small('detr'), id2label=dict(enumerate(names)))
    saved(randomise(theirs), tmp_path)
    test_set = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=[str(i) for i in range(7)])))
    cfg = Config(dict(model=small('detr'), test_dataloader=test_set))
    assert init_detector(cfg, str(tmp_path), device='cpu').dataset_meta['classes'] == tuple(names)
    content = json.loads((tmp_path / 'config.json').read_text())
    for labels in ({str(i): f'LABEL_{i}' for i in range(7)}, {str(i): str(i) for i in range(91)}, ['cat']):
        (tmp_path / 'config.json').write_text(json.dumps({**content, 'id2label': labels}))
        assert init_detector(cfg, str(tmp_path), device='cpu').dataset_meta['classes'] == list('0123456')
