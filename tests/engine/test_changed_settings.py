"""A run whose optimizer or schedule is changed before it is resumed follows its config, and says so."""

import logging

import pytest
from toy_runs import build, toy_config

from mmdet.errors import UserValueError

LONGER = dict(train_cfg__max_epochs=3)


def rates(cfg, resume=False):
    """Learning rate at each epoch's end, groups of the optimizer, and what was said."""
    cfg.resume = resume
    runner = build(cfg)
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(handler)
    runner.train()
    history = runner.message_hub.log_scalars['train/lr'].data[0].tolist()
    return history, runner.optim_wrapper.optimizer, [text for text in said if 'esumed' in text or 'anew' in text]


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(optim_wrapper__optimizer__lr=0.5), 'lr 0.05 -> 0.5'),
        (
            dict(param_scheduler=[dict(type='MultiStepLR', by_epoch=True, begin=0, end=3, milestones=[1], gamma=0.5)]),
            'schedules 2 -> 1',
        ),
        (dict(param_scheduler=[]), 'schedules 2 -> 0'),
        (dict(optim_wrapper__optimizer=dict(type='AdamW', lr=0.05)), 'an optimizer other than AdamW'),
    ],
)
def test_the_schedule_is_that_of_the_config(tmp_path, changes, words):
    rates(toy_config(tmp_path / 'cut', train_cfg__max_epochs=2))
    resumed, optimizer, said = rates(toy_config(tmp_path / 'cut', **LONGER, **changes), resume=True)
    whole, same, _ = rates(toy_config(tmp_path / 'whole', **LONGER, **changes))
    assert resumed[-2:] == pytest.approx(whole[-2:])
    assert type(optimizer) is type(same)
    assert words in ' '.join(said)


def test_milestones_of_the_config_rule(tmp_path):
    rates(toy_config(tmp_path, train_cfg__max_epochs=2))
    cfg = toy_config(tmp_path, **LONGER)
    cfg.param_scheduler[1].milestones = [1]
    resumed, _, said = rates(cfg, resume=True)
    assert resumed[-1] == pytest.approx(0.005)
    assert 'milestones [2] -> [1]' in ' '.join(said)


def test_other_settings_of_the_optimizer(tmp_path):
    rates(toy_config(tmp_path, train_cfg__max_epochs=2))
    _, optimizer, said = rates(toy_config(tmp_path, **LONGER, optim_wrapper__optimizer__momentum=0.5), resume=True)
    assert optimizer.param_groups[0]['momentum'] == 0.5
    assert 'momentum 0.9 -> 0.5' in ' '.join(said)


def test_nothing_is_said_of_the_same_config(tmp_path):
    rates(toy_config(tmp_path, train_cfg__max_epochs=2))
    assert rates(toy_config(tmp_path, **LONGER), resume=True)[2] == []


def test_an_epoch_that_never_ends_is_refused(tmp_path):
    cfg = toy_config(tmp_path, train_dataloader__sampler=dict(type='InfiniteSampler'))
    with pytest.raises(UserValueError, match='never ends, so that no epoch would: use IterBasedTrainLoop'):
        build(cfg).train()


@pytest.mark.parametrize('call, loader', [('val', 'val'), ('test', 'test'), ('train', 'val')])
def test_nothing_to_evaluate(tmp_path, call, loader):
    cfg = toy_config(tmp_path, **{f'{loader}_dataloader__dataset__length': 0})
    with pytest.raises(UserValueError, match=f'{loader}_dataloader has no sample to evaluate'):
        getattr(build(cfg), call)()
