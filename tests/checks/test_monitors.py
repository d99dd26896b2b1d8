"""A number that a hook or a scheduler waits for must be one that the validation will give."""

import pytest
from mmengine.config import Config

from mmdet.checks import check_config
from mmdet.checks.monitors import numbers_of, unknown_monitors

COCO = dict(type='CocoMetric', metric=['bbox'], ann_file='a.json')


def found(evaluator, **changes):
    cfg = dict(val_evaluator=evaluator, val_cfg=dict(type='ValLoop'), **changes)
    return [f'{finding.where}: {finding.message}' for finding in unknown_monitors(cfg)]


def stop(monitor):
    return dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor=monitor)])


@pytest.mark.parametrize(
    ('evaluator', 'monitor'),
    [
        (COCO, 'coco/bbox_mAP'),
        (COCO, 'coco/bbox_mAP_s'),
        (dict(COCO, metric=['bbox', 'segm']), 'coco/segm_mAP_50'),
        (dict(COCO, prefix='mine'), 'mine/bbox_mAP'),
        (dict(COCO, classwise=True), 'coco/cat_precision'),
        (dict(COCO, metric_items=['AR@100']), 'coco/bbox_AR@100'),
        (dict(COCO, metric='proposal_fast', proposal_nums=(1, 10)), 'coco/AR@10'),
        ([COCO, dict(type='VOCMetric')], 'pascal_voc/mAP'),
        (dict(metrics=[COCO]), 'coco/bbox_mAP'),
        (dict(type='VOCMetric', iou_thrs=[0.5, 0.75]), 'pascal_voc/AP75'),
        (dict(type='LVISMetric', ann_file='a.json'), 'lvis/bbox_APr'),
        (dict(type='CocoPanopticMetric'), 'coco_panoptic/PQ_th'),
        (dict(type='SemSegMetric', iou_metrics='mFscore'), 'mRecall'),
        (dict(type='SemSegMetric'), 'aAcc'),
        (dict(type='SomebodysMetric'), 'whatever'),
    ],
)
def test_numbers_that_come(evaluator, monitor):
    assert found(evaluator, **stop(monitor)) == []


@pytest.mark.parametrize(
    ('evaluator', 'changes', 'message'),
    [
        (
            COCO,
            stop('bbox_mAP'),
            "custom_hooks[0].monitor: 'bbox_mAP' is no number that val_evaluator gives. Did you mean coco/bbox_mAP",
        ),
        (
            COCO,
            stop('coco/segm_mAP'),
            "'coco/segm_mAP' is no number that val_evaluator gives. Did you mean coco/bbox_m",
        ),
        (dict(COCO, metric_items=['mAP_50']), stop('coco/bbox_mAP'), "'coco/bbox_mAP' is no number"),
        (dict(type='VOCMetric'), stop('pascal_voc/AP75'), "'pascal_voc/AP75' is no number"),
        (
            COCO,
            dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best=['auto', 'coco/bbox_map']))),
            "default_hooks.checkpoint.save_best: 'coco/bbox_map' is no number that val_evaluator gives. Did you mean",
        ),
        (
            COCO,
            dict(param_scheduler=dict(type='ReduceOnPlateauLR')),
            "param_scheduler[0].monitor: 'loss' is no number that val_evaluator gives. It gives coco/bbox_mAP, ",
        ),
        (
            COCO,
            dict(param_scheduler=[dict(type='ReduceOnPlateauMomentum', monitor='coco/bbox_mPA')]),
            'param_scheduler[0].monitor: ',
        ),
        (None, stop('coco/bbox_mAP'), "'coco/bbox_mAP' comes from a validation, but the config has no val_evaluator."),
    ],
)
def test_numbers_that_do_not_come(evaluator, changes, message):
    (text,) = found(evaluator, **changes)
    assert message in text


def test_the_check_of_configs_finds_them():
    cfg = Config(dict(val_evaluator=COCO, val_cfg=dict(type='ValLoop'), **stop('coco/bbox_mPA')))
    assert [str(each) for each in check_config(cfg) if each.level == 'error'] == [
        "error: custom_hooks[0].monitor: 'coco/bbox_mPA' is no number that val_evaluator gives. Did you mean "
        'coco/bbox_mAP or coco/bbox_mAP_s or coco/bbox_mAP_m?'
    ]


def test_the_numbers_are_those_that_the_metrics_give():
    """On one picture with one box: nothing is given that is not foreseen."""
    import torch

    from mmdet.registry import METRICS

    boxes, labels = torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([0])
    sample = dict(
        img_id=0,
        ori_shape=(20, 20),
        pred_instances=dict(bboxes=boxes, scores=torch.tensor([0.9]), labels=labels),
        gt_instances=dict(bboxes=boxes, labels=labels),
        instances=[dict(bbox=[1.0, 1, 9, 9], bbox_label=0, ignore_flag=0)],
        pred_sem_seg=dict(sem_seg=torch.zeros(1, 4, 4, dtype=torch.long)),
        gt_sem_seg=dict(sem_seg=torch.zeros(1, 4, 4, dtype=torch.long)),
    )
    for evaluator in (
        dict(type='CocoMetric'),
        dict(type='CocoMetric', metric=['proposal', 'bbox'], proposal_nums=(1, 10, 100), classwise=True),
        dict(type='CocoMetric', metric='proposal_fast', proposal_nums=(1, 10)),
        dict(type='VOCMetric', iou_thrs=[0.5, 0.75]),
        dict(type='VOCMetric', metric='recall'),
        dict(type='SemSegMetric', iou_metrics=['mIoU', 'mDice', 'mFscore'], prefix='seg'),
    ):
        metric = METRICS.build(evaluator)
        metric.dataset_meta = dict(classes=('cat',))
        metric.process({}, [sample])
        hooks = [dict(type='EarlyStoppingHook', monitor=name) for name in metric.evaluate(size=1)]
        assert hooks and found(evaluator, custom_hooks=hooks) == []
    assert numbers_of(dict(type='DumpProposals')) is None
