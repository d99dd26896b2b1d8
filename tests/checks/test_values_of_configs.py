"""Text where numbers belong, and halves of sections."""

import numpy as np
import pytest

from mmdet.checks.config_check import check_config

SOUND = dict(
    train_dataloader=dict(batch_size=np.int32(2)),
    train_cfg=dict(max_epochs=12),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=np.float32(0.1))),
    auto_scale_lr=dict(base_batch_size=16),
    model=dict(backbone=dict(type='ResNet', depth=18), bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=8)),
)


def found(**changes):
    return {
        f.where: f.message for f in check_config({**SOUND, **changes}) if f.level == 'error' and 'type' not in f.where
    }


def test_numbers_of_numpy_are_numbers():
    assert found() == {}


@pytest.mark.parametrize(
    'changes, where, words',
    [
        (
            dict(train_dataloader=dict(batch_size='abc')),
            'train_dataloader.batch_size',
            "text 'abc', not a whole number",
        ),
        (dict(train_cfg=dict(max_epochs='12')), 'train_cfg.max_epochs', "text '12', not a whole number"),
        (
            dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr='1e-3'))),
            'optim_wrapper.optimizer.lr',
            "text '1e-3', not a number",
        ),
        (
            dict(model=dict(bbox_head=dict(type='RetinaHead', num_classes='3', in_channels=8))),
            'model.bbox_head.num_classes',
            'not a whole number',
        ),
        (dict(auto_scale_lr=dict(base_batch_size='16')), 'auto_scale_lr.base_batch_size', 'not a number'),
        (dict(val_cfg=dict()), 'val_dataloader', 'is None or missing, but val_cfg is set'),
        (dict(optim_wrapper=None), 'optim_wrapper', 'but train_dataloader, train_cfg is set'),
        (dict(custom_hooks=["dict(type='EMAHook')"]), 'custom_hooks[0]', 'not a dict with a type'),
        (
            dict(model=dict(backbone=dict(type='ResNet', depth=18, _delete=True))),
            'model.backbone._delete',
            'Did you mean _delete_?',
        ),
    ],
)
def test_wrong_values(changes, where, words):
    assert words in found(**changes)[where]
