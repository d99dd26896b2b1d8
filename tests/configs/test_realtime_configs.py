"""Every config of the real-time transformers and of ViTDet, whole: it trains a step, detects and is exported on small
pictures, and has as many parameters as the model of `transformers` of that size."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.checks.config_check import check_config
from mmdet.config import load_config
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks

pytestmark = pytest.mark.usefixtures('default_scope')

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ('rtdetr', 'rtdetrv2', 'dfine', 'deim', 'lwdetr', 'rfdetr', 'vitdet', 'deimv2')
SMALLEST = (
    'rtdetr_r18vd_4xb4-72e_coco',
    'rtdetrv2_r18vd_4xb4-120e_coco',
    'dfine_hgnetv2-n_8xb16-160e_coco',
    'deim_dfine_hgnetv2-n_8xb16-160e_coco',
    'lwdetr_tiny_8xb4-60e_coco',
    'rfdetr_nano_8xb2-60e_coco',
    'mask-rcnn_vit-b-mae_lsj-100e_coco',
    'deimv2_hgnetv2-atto_8xb16-500e_coco',
)
CONFIGS = {path.stem: path for family in FAMILIES for path in sorted((ROOT / 'configs' / family).glob('*.py'))}
spec = importlib.util.spec_from_file_location('realtime_peers', ROOT / 'benchmarks' / 'realtime_peers.py')
peers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peers)


def quick(names):
    """The smallest of each family, and the others among the slow ones."""
    return [name if name in SMALLEST else pytest.param(name, marks=pytest.mark.slow) for name in names]


def batch(cfg):
    """Two pictures, one without objects, of the smallest size that all levels and windows of the config fit in."""
    step = cfg.model.data_preprocessor.get('pad_size_divisor', 32)
    side = step * -(-96 // step)
    samples = []
    for boxes, labels in (([[8.0, 10.0, 60.0, 70.0], [30.0, 20.0, 90.0, 50.0]], [3, 70]), ([], [])):
        meta = dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, torch.tensor(boxes).int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long),
            masks=BitmapMasks(masks.numpy(), side, side),
        )
        samples.append(sample)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in samples]
    return dict(inputs=pictures, data_samples=samples)


class Network(torch.nn.Module):
    """What is exported: scores and boxes of the last layer, or maps and what the first stage makes of them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        if hasattr(self.model, 'rpn_head'):
            feats = self.model.extract_feat(images)
            return tuple(feats) + tuple(x for level in self.model.rpn_head(feats) for x in level)
        scores, boxes = self.model(images, mode='tensor')[:2]
        return scores[-1], boxes[-1]


@pytest.mark.parametrize('name', quick(CONFIGS))
def test_trains_a_step_detects_and_is_exported(name):
    torch.manual_seed(0)
    cfg = load_config(CONFIGS[name])
    assert not [str(found) for found in check_config(cfg, CONFIGS[name]) if found.level == 'error']
    cfg.model.backbone.pop('init_cfg', None)
    cfg.model.data_preprocessor.pop('batch_augments', None)  # which enlarge
    model = MODELS.build(cfg.model)
    model.init_weights()
    data = batch(cfg)
    model.train()
    total, _ = model.parse_losses(model(**model.data_preprocessor(data, training=True), mode='loss'))
    total.backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-4)
    grads = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
    assert torch.isfinite(total) and all(torch.isfinite(grad).all() for grad in grads)
    assert sum(grad.abs().sum() > 0 for grad in grads) > 0.5 * len(grads)
    optimizer.step()
    model.eval()
    inputs = model.data_preprocessor(data)
    with torch.no_grad():
        results = model(**inputs, mode='predict')
        for result in results:
            found = result.pred_instances
            assert torch.isfinite(found.bboxes).all() and torch.isfinite(found.scores).all()
            assert set(found.labels.tolist()) <= set(range(80))
        network, images = Network(model), inputs['inputs']
        exported = torch.export.export(network, (images,), strict=False).module()
        other = images.flip(-1)
        torch.testing.assert_close(exported(other), network(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', [name for name in CONFIGS if name.startswith('deimv2')])
def test_objects_are_blended_in_until_the_plain_epochs(name):
    """Copy-Blend follows the last resizing in the two pipelines of the augmented epochs, and is in no other."""
    cfg = load_config(CONFIGS[name])
    *augmented, plain = [hook['switch_pipeline'] for hook in cfg.custom_hooks if hook['type'] == 'PipelineSwitchHook']
    for pipeline in augmented:
        kinds = [step['type'] for step in pipeline]
        assert kinds[kinds.index('Resize') :] == ['Resize', 'CachedCopyBlend', 'FilterAnnotations', 'PackDetInputs']
    assert len(augmented) == 2
    for pipeline in (plain, cfg.train_dataloader.dataset.pipeline):
        assert 'CachedCopyBlend' not in [step['type'] for step in pipeline]


@pytest.mark.parametrize('name', quick([name for name in CONFIGS if not name.startswith(('deim', 'mask', 'cascade'))]))
def test_as_many_parameters_as_transformers(name):
    """But for what is meant: a label of padding among those of denoising, and D-FINE's two constants."""
    pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')
    cfg = load_config(CONFIGS[name]).model
    with torch.device('meta'):
        ours, theirs = MODELS.build(cfg), peers.peer_of(cfg)
    extra = 0 if cfg.type in ('LWDETR', 'RFDETRSeg') else cfg.decoder.layer_cfg.self_attn_cfg.embed_dims
    extra += 2 if cfg.type == 'DFINE' else 0
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert counts[0] + extra == counts[1]
