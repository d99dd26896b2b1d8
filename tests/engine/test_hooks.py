"""Hooks, optimizer wrappers and schedulers."""

import io
import logging
import re
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import InstanceData
from torch import nn
from toy_runs import build, toy_config

from mmdet.engine.optimizers.optim_wrapper import AmpOptimWrapper, NonFiniteLossError, OptimWrapper
from mmdet.registry import MODELS


class Stop(Exception):
    pass


class StopHook(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise Stop


# --------------------------------------------------------------------------------------------------------------------
def test_workers_and_epochs_draw_what_they_should(tmp_path):
    """Epochs differ; 0, 1 and 2 workers, persistent or not, draw the same."""

    def two_epochs(**loader):
        changes = {f'train_dataloader__{key}': value for key, value in loader.items()}
        runner = build(toy_config(tmp_path, **changes))
        loop = runner.build_train_loop(runner._train_loop)
        epochs = []
        for epoch in range(2):
            loop.dataloader.sampler.set_epoch(epoch)
            rows = [
                (int(i), tuple(x.tolist())) for b in loop.dataloader for i, x in zip(b['data_samples'], b['inputs'])
            ]
            epochs.append(dict(rows))
        return epochs

    first, second = two_epochs(num_workers=0)
    assert first.keys() == second.keys() and len(set(first.values())) == 32
    assert not set(first.values()) & set(second.values())
    for loader in (dict(num_workers=1), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)):
        assert two_epochs(**loader) == [first, second]


def test_losses_wait_for_the_log_and_histories_are_bounded(tmp_path):
    cfg = toy_config(tmp_path, default_hooks__runtime_info=dict(type='RuntimeInfoHook', max_history=10))
    runner = build(cfg)
    seen = []

    class Watch(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            history = runner.message_hub.log_scalars.get('train/loss')
            seen.append(0 if history is None else len(history.data[0]))

    runner.register_hook(Watch())
    runner.train()
    assert seen[:9] == [0, 0, 0, 0, 5, 5, 5, 8, 8]
    assert len(runner.message_hub.log_scalars['train/loss'].data[0]) == 10
    assert {'train/loss', 'train/loss_0', 'train/grad_norm', 'train/lr', 'train/time'} <= set(
        runner.message_hub.log_scalars
    )


def test_first_nonfinite_loss_stops_before_the_weights_change(tmp_path, capsys):
    from mmdet.engine.replay import replay
    from mmdet.utils.checkpoint import read_checkpoint

    runner = build(toy_config(tmp_path, train_dataloader__dataset__nan_index=5))
    with pytest.raises(NonFiniteLossError, match=r'not finite: loss_0, loss_1.*replay\.py') as caught:
        runner.train()
    assert 'Learning rate {"lr"' in str(caught.value)
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
    (path,) = tmp_path.glob('nonfinite_iter_*_rank_0.pth')
    record = read_checkpoint(path)
    assert 5 in record['batch']['data_samples'] and record['lr']['lr'] and record['not_finite'] == ['loss_0', 'loss_1']
    assert str(replay(path)) == str(record['losses'])


def test_replay_gives_the_recorded_losses(tmp_path):
    from mmdet.engine.replay import record_step, replay
    from mmdet.utils.checkpoint import read_checkpoint

    runner = build(toy_config(tmp_path))

    class Record(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 3:
                record_step(runner, data_batch, 'test')
                raise Stop

    runner.register_hook(Record())
    with pytest.raises(Stop):
        runner.train()
    path = tmp_path / 'nonfinite_iter_4_rank_0.pth'
    assert replay(path) == read_checkpoint(path)['losses']


def test_batches_with_detection_samples_travel_in_a_record():
    import numpy as np

    from mmdet.engine.replay import decode, encode, image_paths
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks

    sample = DetDataSample(metainfo=dict(img_path='a.jpg', scale_factor=(1.0, 2.0)))
    sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(torch.ones(2, 4)), labels=torch.arange(2))
    sample.gt_instances.masks = BitmapMasks(np.ones((2, 3, 4), np.uint8), 3, 4)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    sample.ignored_instances.masks = PolygonMasks([], 3, 4)
    batch = dict(inputs=[torch.zeros(3, 2, 2)], data_samples=[sample])
    assert image_paths(batch) == ['a.jpg']
    again = decode(encode(batch))['data_samples'][0]
    assert again.scale_factor == (1.0, 2.0)
    assert torch.equal(again.gt_instances.bboxes.tensor, torch.ones(2, 4))
    assert again.gt_instances.masks.masks.shape == (2, 3, 4) and again.ignored_instances.masks.height == 3
    with pytest.raises(ValueError, match='Popen is not a class'):
        decode(dict(_class='Popen', fields={}, metainfo={}))


def test_validation_loss_is_one_line(tmp_path):
    runner = build(toy_config(tmp_path, val_cfg=dict(type='ValLoop', compute_loss=True), train_cfg__max_epochs=1))
    runner.train()
    assert {'val/mAP', 'val/loss', 'val/loss_0'} <= set(runner.message_hub.log_scalars)


def test_teacher_and_student_are_validated(tmp_path):
    from mmdet.engine.runner import DetRunner

    runner = build(toy_config(tmp_path, val_cfg=dict(type='TeacherStudentValLoop')))
    assert isinstance(runner, DetRunner)
    with pytest.raises(ValueError, match='needs a model with semi_test_cfg, which ToyModel lacks'):
        runner.val()
    runner.model.semi_test_cfg = dict(predict_on='teacher')
    assert set(runner.val()) == {'teacher/mAP', 'student/mAP'}
    assert runner.model.semi_test_cfg == dict(predict_on='teacher')


def test_early_stopping_and_save_best_are_one_line(tmp_path):
    stop = dict(type='EarlyStoppingHook', monitor='mAP', rule='greater', min_delta=9.0, patience=1)
    runner = build(toy_config(tmp_path, custom_hooks=[stop]))
    runner.train()
    assert runner.epoch == 2 and len(list(tmp_path.glob('best_mAP_epoch_*.pth'))) == 1


@pytest.mark.parametrize(
    ('names', 'watched'),
    [
        (['coco/cat_precision', 'coco/dog_precision', 'coco/bbox_mAP_50', 'coco/bbox_mAP'], 'coco/bbox_mAP'),
        (['lvis/cat_precision', 'lvis/bbox_AP50', 'lvis/bbox_AP', 'lvis/bbox_APr'], 'lvis/bbox_AP'),
        (['a/coco/mAP_precision', 'a/coco/segm_mAP', 'b/coco/segm_mAP'], 'a/coco/segm_mAP'),
        (['pascal_voc/AP50', 'pascal_voc/mAP'], 'pascal_voc/mAP'),
        (['coco_panoptic/SQ', 'coco_panoptic/PQ'], 'coco_panoptic/PQ'),
        (['coco/cat_precision', 'coco/AR@100'], 'coco/AR@100'),
        (['coco/cat_precision'], 'coco/cat_precision'),
        (['loss'], 'loss'),
    ],
)
def test_auto_means_the_overall_mean(names, watched):
    from mmdet.engine.hooks.checkpoint_hook import overall_metric

    assert overall_metric(dict.fromkeys(names, 0.0)) == watched


def validated(tmp_path, metrics, **changes):
    """A runner whose validations give these numbers, after training."""
    runner = build(toy_config(tmp_path, train_cfg__max_epochs=len(metrics), **changes))
    found = iter(metrics)
    runner.val_evaluator.evaluate = lambda size: dict(next(found))
    runner.train()
    return runner


def test_the_best_checkpoint_is_that_of_the_overall_mean(tmp_path):
    """The class gets worse while the mean gets better; a metric that no list of names has is better when greater."""
    numbers = [{'coco/cat_precision': 0.9, 'coco/bbox_mAP': 0.2}, {'coco/cat_precision': 0.1, 'coco/bbox_mAP': 0.3}]
    runner = validated(tmp_path / 'coco', numbers)
    assert [path.name for path in (tmp_path / 'coco').glob('best*')] == ['best_coco_bbox_mAP_epoch_2.pth']
    assert runner.message_hub.get_info('best_score') == 0.3
    validated(tmp_path / 'panoptic', [{'coco_panoptic/PQ': 40.0}, {'coco_panoptic/PQ': 50.0}])
    assert [path.name for path in (tmp_path / 'panoptic').glob('best*')] == ['best_coco_panoptic_PQ_epoch_2.pth']


def test_no_checkpoint_is_the_best_without_ground_truth(tmp_path):
    """-1 stands for no ground truth: it is no score, neither for the best checkpoint nor for early stopping."""
    stop = [dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater', patience=1)]
    none = [{'coco/bbox_mAP': -1.0}] * 3
    runner = validated(tmp_path / 'none', none, custom_hooks=stop)
    assert runner.epoch == 3 and not list((tmp_path / 'none').glob('best*'))
    assert 'best_score' not in runner.message_hub.runtime_info
    validated(tmp_path / 'later', [*none[:1], {'coco/bbox_mAP': 0.0}])
    assert [path.name for path in (tmp_path / 'later').glob('best*')] == ['best_coco_bbox_mAP_epoch_2.pth']


def test_unknown_metric_for_save_best_names_the_metrics(tmp_path):
    runner = build(
        toy_config(tmp_path, default_hooks__checkpoint=dict(type='CheckpointHook', save_best='map', rule='greater'))
    )
    with pytest.raises(KeyError, match="save_best='map' is none of the metrics that validation gave: mAP"):
        runner.train()


def test_errors_in_hooks_keep_their_traceback(tmp_path):
    class Broken(Hook):
        def before_train(self, runner):
            self.very_own_mistake()

        def very_own_mistake(self):
            raise TypeError('mine')

    runner = build(toy_config(tmp_path))
    runner.register_hook(Broken())
    with pytest.raises(TypeError, match=r'^mine$') as caught:
        runner.train()
    assert caught.traceback[-1].name == 'very_own_mistake'


def test_activation_checkpointing_is_refused(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.activation_checkpointing = ['backbone']
    with pytest.raises(ValueError, match='set with_cp=True'):
        build(cfg)


def test_watchdog_says_where_it_hangs(tmp_path, capfd):
    from mmdet.engine.hooks import WatchdogHook

    hook = WatchdogHook(timeout=0.05)
    runner = SimpleNamespace(
        iter=41, rank=3, phase='training step', optim_wrapper=SimpleNamespace(phase='backward pass')
    )
    stream = io.StringIO()
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance('watchdog_test', log_level='INFO')
    logger.addHandler(logging.StreamHandler(stream))
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    until = time.monotonic() + 30
    while 'Rank 3' not in stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    hook.after_train(runner)
    hook._thread.join(1)
    assert "Rank 3 has been in the phase 'training step: backward pass' of iteration 42" in stream.getvalue()
    assert stream.getvalue().count('Rank 3') == 1
    assert 'time.sleep' not in stream.getvalue()


def test_progress_bar_only_on_a_terminal(tmp_path, monkeypatch):
    import sys

    from mmdet.engine.hooks import ProgressHook

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    runner = build(toy_config(tmp_path / 'a'))
    monkeypatch.setattr(sys, 'stderr', terminal)
    runner.train()
    assert 'train' in terminal.getvalue() and '/24' in terminal.getvalue()
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    assert not ProgressHook().enabled


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (('a', 'b', 'c'), r'bbox_head \(Head\) has num_classes=2, but the train dataset has 3 classes: a, b, c'),
        ('person', r"is the string 'person': write a tuple, with its comma: \('person',\)"),
    ],
)
def test_number_of_classes(classes, message):
    from mmdet.engine.hooks import NumClassCheckHook

    model = nn.Module()
    model.bbox_head, model.rpn_head, model.backbone = Head(2), Head(1), Head(1000)
    runner = SimpleNamespace(model=model)
    runner.train_dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    with pytest.raises(ValueError, match=message):
        NumClassCheckHook().before_train_epoch(runner)
    runner.train_dataloader.dataset.metainfo = dict(classes=('a', 'b'))
    NumClassCheckHook().before_train_epoch(runner)


def test_number_of_classes_warns_of_a_dataset_without_names():
    from mmdet.engine.hooks import NumClassCheckHook

    warnings = []
    runner = SimpleNamespace(model=nn.Module(), logger=SimpleNamespace(warning=warnings.append))
    runner.val_dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=None)))
    NumClassCheckHook().before_val_epoch(runner)
    assert len(warnings) == 1 and 'no classes' in warnings[0]


def test_mean_teacher():
    from mmdet.engine.hooks import MeanTeacherHook

    model = nn.Module()
    model.teacher, model.student = nn.Linear(1, 1), nn.Linear(1, 1)
    runner = SimpleNamespace(model=model, iter=0)
    hook = MeanTeacherHook(momentum=0.25)
    hook.before_train(runner)
    assert torch.equal(model.teacher.weight, model.student.weight)
    with torch.no_grad():
        before = model.teacher.weight.clone()
        model.student.weight.add_(1)
    hook.after_train_iter(runner, 0)
    torch.testing.assert_close(model.teacher.weight, before + 0.25)
    with pytest.raises(ValueError, match='needs a model with a teacher, which Linear has not'):
        hook.before_train(SimpleNamespace(model=nn.Linear(1, 1), iter=0))


def test_mode_switches_come_once_and_after_a_resume_too():
    from mmdet.engine.hooks import PipelineSwitchHook, SetEpochInfoHook, YOLOXModeSwitchHook

    skipped = []
    dataset = SimpleNamespace(update_skip_type_keys=skipped.append, pipeline='old')
    loader = SimpleNamespace(dataset=dataset, persistent_workers=True, _iterator='workers')
    model = nn.Module()
    model.bbox_head = nn.Module()
    model.bbox_head.use_l1 = False
    logger = logging.getLogger('switch')
    runner = SimpleNamespace(model=model, train_dataloader=loader, epoch=3, max_epochs=10, logger=logger)
    yolox, switch = YOLOXModeSwitchHook(num_last_epochs=5), PipelineSwitchHook(4, [])
    yolox.before_train_epoch(runner)
    switch.before_train_epoch(runner)
    assert not skipped and dataset.pipeline == 'old'
    for runner.epoch in (7, 8):
        yolox.before_train_epoch(runner)
        switch.before_train_epoch(runner)
        assert yolox._restart_dataloader and switch._restart_dataloader
        assert loader._DataLoader__initialized is (runner.epoch == 8)
    assert skipped == [('Mosaic', 'RandomAffine', 'MixUp')] and model.bbox_head.use_l1
    assert dataset.pipeline != 'old' and loader._iterator is None
    model.set_epoch = lambda epoch: setattr(model, 'epoch', epoch)
    SetEpochInfoHook().before_train_epoch(runner)
    assert model.epoch == 8


def test_memory_line(caplog):
    from mmdet.engine.hooks import MemoryProfilerHook

    hook = MemoryProfilerHook(interval=1)
    with caplog.at_level(logging.INFO):
        hook.after_train_iter(SimpleNamespace(logger=logging.getLogger('memory')), 0)
    assert 'available_memory' in caplog.text and 'current_process_memory' in caplog.text


# --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(('dtype', 'scaled'), [('float16', True), ('bfloat16', False), (None, False)])
def test_mixed_precision_on_the_cpu(dtype, scaled):
    model = nn.Linear(4, 1)
    for parameter in model.parameters():  # small enough for the first loss scale, which would skip the step
        nn.init.constant_(parameter, 0.01)
    wrapper = AmpOptimWrapper(
        dtype=dtype, optimizer=torch.optim.SGD(model.parameters(), 0.1), clip_grad=dict(max_norm=1.0)
    )
    assert wrapper.loss_scaler.is_enabled() == scaled
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 4))
    assert output.dtype == (torch.float16 if dtype == 'float16' else torch.bfloat16)
    wrapper.update_params(output.float().square().sum())
    assert not torch.equal(model.weight, before)
    assert isinstance(wrapper.pending_norms[0], torch.Tensor)
    state = wrapper.state_dict()
    AmpOptimWrapper(dtype=dtype, optimizer=torch.optim.SGD(model.parameters(), 0.1)).load_state_dict(state)


def test_mixed_precision_refuses_what_it_does_not_know():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    with pytest.raises(ValueError, match="not 'float8'"):
        AmpOptimWrapper(dtype='float8', optimizer=optimizer)
    with pytest.raises(TypeError, match="loss_scale must be 'dynamic'"):
        AmpOptimWrapper(loss_scale='static', optimizer=optimizer)


def test_nonfinite_loss_does_not_reach_the_optimizer():
    model = nn.Linear(1, 1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    wrapper.stop_on_nonfinite_loss = True
    before = model.weight.detach().clone()
    with pytest.raises(NonFiniteLossError, match='the loss is inf'):
        wrapper.update_params(model(torch.full((1, 1), float('inf'))).abs().sum())
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('name', ['ExponentialMovingAverage', 'StochasticWeightAverage'])
def test_averages_equal_mmengine(name, update_buffers, default_scope):
    from mmengine import model as theirs

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ours = MODELS.build(dict(type=name, model=model, update_buffers=update_buffers))
    reference = getattr(theirs, name)(model, update_buffers=update_buffers)
    for _ in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        ours.update_parameters(model)
        reference.update_parameters(model)
    for (key, value), expected in zip(ours.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, msg=key)


def test_exp_momentum_ema(default_scope):

    model = nn.Linear(1, 1, bias=False)
    ema = MODELS.build(dict(type='ExpMomentumEMA', model=model, momentum=0.1, gamma=2))
    nn.init.zeros_(model.weight)
    ema.update_parameters(model)
    nn.init.ones_(model.weight)
    ema.update_parameters(model)  # step 1: 0.9 * exp(-2 / 2) + 0.1
    assert ema.module.weight.item() == pytest.approx(0.9 * torch.exp(torch.tensor(-1.0)).item() + 0.1)
    again = MODELS.build(dict(type='ExpMomentumEMA', model=model, momentum=0.1, gamma=2))
    again.load_state_dict(ema.state_dict())
    again.update_parameters(model)
    assert int(again.steps) == 3


def test_quadratic_warmup(default_scope):
    from mmdet.registry import PARAM_SCHEDULERS

    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4, momentum=0.8)
    kinds = [
        PARAM_SCHEDULERS.build(dict(type=f'QuadraticWarmup{k}', optimizer=optimizer, begin=0, end=4, by_epoch=False))
        for k in ('LR', 'Momentum')
    ]
    values = []
    for _ in range(6):
        values.append((optimizer.param_groups[0]['lr'], optimizer.param_groups[0]['momentum']))
        optimizer.step()
        for scheduler in kinds:
            scheduler.step()
    expected = [min(t, 4) ** 2 / 16 for t in (1, 2, 3, 4, 5, 6)]
    assert [lr for lr, _ in values] == pytest.approx([0.4 * e for e in expected])
    assert [momentum for _, momentum in values] == pytest.approx([0.8 * e for e in expected])
    with pytest.raises(ValueError, match='needs its end'):
        PARAM_SCHEDULERS.build(dict(type='QuadraticWarmupLR', optimizer=optimizer))


@pytest.mark.parametrize(
    'changes',
    [
        dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='map', rule='greater')]),
        dict(param_scheduler=[dict(type='ReduceOnPlateauLR', monitor='map', rule='greater')]),
    ],
)
def test_unknown_monitor_is_an_error(tmp_path, changes):
    runner = build(toy_config(tmp_path, **changes))
    message = re.escape("monitor='map' is none of the metrics that validation gave: mAP. Did you mean mAP?")
    with pytest.raises(KeyError, match=message):
        runner.train()
    assert runner.epoch <= 1
