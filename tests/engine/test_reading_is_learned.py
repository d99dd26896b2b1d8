"""Grounding DINO and its language model learn from nothing what words mean: the quickstart, on few pictures."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmdet.config import load_config
from mmdet.engine.runner import DetRunner

ROOT = Path(__file__).parents[2]
STEPS, LESS = 30, 0.7


@pytest.mark.slow
def test_losses_fall_and_the_language_model_learns(tmp_path, default_scope):
    pytest.importorskip('transformers', reason='transformers, by which texts are read')
    spec = importlib.util.spec_from_file_location('shapes', ROOT / 'tools' / 'dataset_converters' / 'shapes.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_dataset(tmp_path / 'data', train=4, val=1, texts=True)

    cfg = load_config(ROOT / 'configs' / 'quickstart' / 'grounding-dino_r18_shapes.py')
    cfg = Config.fromstring(cfg.pretty_text.replace('data/shapes_texts/', f'{tmp_path}/data/'), '.py')
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=STEPS)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10)]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1)
    cfg.log_processor = dict(by_epoch=False)
    runner = DetRunner.from_cfg(cfg)
    before = [value.detach().clone() for value in runner.model.language_model.parameters()]
    runner.train()
    for value, earlier in zip(runner.model.language_model.parameters(), before, strict=True):
        assert value.isfinite().all() and not torch.equal(value, earlier)
    losses = runner.message_hub.get_scalar('train/loss_cls').data[0]
    assert losses[-5:].mean() < LESS * losses[:5].mean()
    assert 0 <= runner.message_hub.get_scalar('val/coco/bbox_mAP').current() <= 1
