"""RTMDet's and YOLOX's own configs at a tenth of their sizes: trained, resumed and tested with augmentation."""

import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from test_resume import CutOffHook, train
from toy_runs import fingerprint

from mmdet.apis import launch
from mmdet.config import load_config

ROOT = Path(__file__).parents[2]
RECIPES = {
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolox': 'yolox/yolox_tiny_8xb8-300e_coco.py',
}
CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
TENTH = {side: side // 10 for side in (1280, 960, 640, 320, -320)} | {416: 64}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    sys.path.insert(0, str(ROOT / 'tools' / 'dataset_converters'))
    try:
        from shapes import make_dataset
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_dataset(folder, train=12, val=2)
    return folder


def smaller(value):
    """A config with every side of a picture a tenth as long, and norms of one process."""
    if isinstance(value, dict):
        return type(value)({key: smaller(item) for key, item in value.items() if key != 'size_divisor'})
    if isinstance(value, (list, tuple)):
        return type(value)(smaller(item) for item in value)
    if value == 'SyncBN':
        return 'BN'
    return TENTH.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def recipe(name, shapes, work_dir):
    """Four epochs of three iterations; the second stage begins with the third."""
    cfg = load_config(ROOT / 'configs' / RECIPES[name])
    data = {}
    for key, split in (('train_dataloader', 'train'), ('val_dataloader', 'val'), ('test_dataloader', 'val')):
        loader = data[key] = smaller(cfg[key])
        loader.update(num_workers=0, persistent_workers=False, batch_size=4, pin_memory=False)
        inner = loader.dataset.get('dataset', loader.dataset)
        inner.update(
            data_root=str(shapes),
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=CLASSES),
        )
    hooks = smaller(cfg.custom_hooks)
    for hook in hooks:
        if hook.type == 'PipelineSwitchHook':
            hook.switch_epoch = 2
        if hook.type == 'YOLOXModeSwitchHook':
            hook.num_last_epochs = 1
    evaluator = dict(type='CocoMetric', ann_file=str(shapes / 'annotations' / 'val.json'), metric='bbox')
    model = smaller(cfg.model)
    model.backbone.update(widen_factor=0.125, init_cfg=None)
    model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    model.bbox_head.update(num_classes=5, in_channels=16, feat_channels=16)
    for augment in model.data_preprocessor.get('batch_augments') or ():
        augment.update(interval=2, size_divisor=32)
    cfg.update(
        data, model=model, custom_hooks=hooks, val_evaluator=evaluator, test_evaluator=evaluator, log_level='ERROR'
    )
    cfg.update(work_dir=str(work_dir), experiment_name=work_dir.name, tta_pipeline=smaller(cfg.tta_pipeline))
    cfg.train_cfg.update(max_epochs=4, val_interval=4, dynamic_intervals=None)
    cfg.default_hooks.checkpoint.update(interval=2, by_epoch=False, max_keep_ckpts=9)
    cfg.default_hooks.logger.interval = 1
    cfg.randomness = dict(seed=3)
    return cfg


# RTMDet's first stage mixes with the pictures that were seen last, which no checkpoint holds: its second stage resumes.
@pytest.mark.parametrize('name, cut', [('yolox', 5), ('rtmdet', 9)])
def test_resumed_recipe_equals_the_whole(name, cut, shapes, tmp_path):
    whole = train(recipe(name, shapes, tmp_path / 'whole'))
    train(recipe(name, shapes, tmp_path / 'cut'), CutOffHook(iteration=cut))
    resumed = train(recipe(name, shapes, tmp_path / 'cut'), resume=True)
    assert resumed.resume_state.path is not None
    assert fingerprint(resumed) == fingerprint(whole)
    scalars = whole.message_hub.log_scalars
    assert np.isfinite(scalars['train/loss'].data[0]).all()
    if name == 'yolox':  # the last epochs have a further loss
        assert len(scalars['train/loss_l1'].data[0]) == 6
    else:
        kinds = [type(step).__name__ for step in whole.train_dataloader.dataset.pipeline.transforms]
        assert 'CachedMosaic' not in kinds and 'RandomCrop' in kinds


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_is_tested_with_augmentation(name, shapes, tmp_path):
    cfg = recipe(name, shapes, tmp_path / 'trained')
    cfg.train_cfg.update(max_epochs=1)
    cfg.model.test_cfg.update(score_thr=0.0)
    train(cfg)
    cfg.dump(tmp_path / 'recipe.py')
    tool = runpy.run_path(str(ROOT / 'tools' / 'test.py'))
    (weights,) = (tmp_path / 'trained').glob('iter_2.pth')
    out = tmp_path / 'found.pkl'
    given = [tmp_path / 'recipe.py', weights, '--tta', '--out', out, '--work-dir', tmp_path / 'tested']
    launch.test(tool['parse_args'](list(map(str, given))))
    pictures = pickle.loads(out.read_bytes())
    counts = [len(picture['pred_instances']['bboxes']) for picture in pictures]
    assert len(counts) == 2 and all(0 < count <= cfg.tta_model.tta_cfg.max_per_img for count in counts)
