"""Runs of semi-supervised training: branches of batches, the moving teacher, validation of both."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from toy_runs import join_ranks, run_ranks

from mmdet.engine.runner import DetRunner

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'models' / 'roi_heads'))
sys.path.insert(0, str(ROOT / 'tests' / 'models' / 'detectors'))

BRANCHES = ['sup', 'unsup_teacher', 'unsup_student']
PACK = dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor', 'homography_matrix'))
FLIP = dict(type='RandomFlip', prob=0.5)
STRONG = [dict(type='Resize', scale=(112, 112), keep_ratio=True), FLIP, dict(type='Rotate', prob=1.0), PACK]
TEST = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 96)), dict(type='PackDetInputs')]
CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    spec = importlib.util.spec_from_file_location('shapes', ROOT / 'tools' / 'dataset_converters' / 'shapes.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp('data') / 'shapes'
    module.make_dataset(out, train=8, val=2, seed=1)
    return out


def run_config(shapes, work_dir):
    from test_semi_supervised import config

    model = config(reg_pseudo_thr=1.0, pseudo_label_initial_score_thr=0.15, rpn_pseudo_thr=0.15, cls_pseudo_thr=0.15)
    model.detector.roi_head.bbox_head.num_classes = 5
    model.data_preprocessor.data_preprocessor.update(mean=[114.0] * 3, std=[57.0] * 3)
    load = dict(type='LoadImageFromFile')
    data = dict(type='CocoDataset', data_root=str(shapes), metainfo=dict(classes=CLASSES))
    train = dict(data, ann_file='annotations/train.json', data_prefix=dict(img='train/'))
    labelled = dict(
        train,
        indices=2,
        pipeline=[
            load,
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(96, 96)),
            FLIP,
            dict(type='MultiBranch', branch_field=BRANCHES, sup=dict(type='PackDetInputs')),
        ],
    )
    weak = [dict(type='Resize', scale=(96, 96), keep_ratio=True), FLIP, PACK]
    unlabelled = dict(
        train,
        indices=[2, 3, 4, 5, 6, 7],
        pipeline=[
            load,
            dict(type='LoadEmptyAnnotations'),
            dict(type='MultiBranch', branch_field=BRANCHES, unsup_teacher=weak, unsup_student=STRONG),
        ],
    )
    val = dict(data, ann_file='annotations/val.json', data_prefix=dict(img='val/'), test_mode=True, pipeline=TEST)
    return Config(
        dict(
            default_scope='mmdet',
            work_dir=str(work_dir),
            model=model,
            train_dataloader=dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type='GroupMultiSourceSampler', batch_size=3, source_ratio=[1, 2]),
                dataset=dict(type='ConcatDataset', datasets=[labelled, unlabelled]),
            ),
            val_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=val,
            ),
            val_evaluator=dict(type='CocoMetric', ann_file=str(shapes / 'annotations' / 'val.json'), metric='bbox'),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
            val_cfg=dict(type='TeacherStudentValLoop'),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[dict(type='MeanTeacherHook', momentum=0.25)],
            randomness=dict(seed=1),
            log_level='ERROR',
        )
    )


def test_a_run(shapes, tmp_path, default_scope):
    runner = DetRunner.from_cfg(run_config(shapes, tmp_path))
    model, seen = runner.model, []
    weight = lambda part: part.roi_head.bbox_head.fc_cls.weight.detach().clone()
    follow = model.loss

    def loss(inputs, samples):
        assert torch.equal(weight(model.teacher), weight(model.student)) == (not seen)
        losses = follow(inputs, samples)
        sizes = {branch: (len(images), max(images.shape[2:])) for branch, images in inputs.items()}
        found = sum(len(sample.gt_instances) for sample in samples['unsup_student'])
        seen.append((sizes, found, weight(model.student), weight(model.teacher)))
        return losses

    model.loss = loss
    runner.train()
    assert [sizes for sizes, *_ in seen] == [dict(sup=(1, 96), unsup_teacher=(2, 96), unsup_student=(2, 112))] * 2
    assert all(found for _, found, *_ in seen)
    (_, _, start, _), (_, _, second, teacher) = seen
    torch.testing.assert_close(teacher, 0.75 * start + 0.25 * second)
    torch.testing.assert_close(weight(model.teacher), 0.75 * teacher + 0.25 * weight(model.student))
    assert not any(value.requires_grad for value in model.teacher.parameters())
    metrics = {key for key in runner.message_hub.log_scalars if key.startswith('val/')}
    assert {'val/teacher/coco/bbox_mAP', 'val/student/coco/bbox_mAP'} <= metrics
    assert model.semi_test_cfg == dict(predict_on='teacher')


def test_both_are_validated_where_nobody_is_chosen(shapes, tmp_path, default_scope):
    cfg = run_config(shapes, tmp_path)
    cfg.model.semi_test_cfg = None
    runner = DetRunner.from_cfg(cfg)
    assert {name.partition('/')[0] for name in runner.val()} == {'teacher', 'student'}
    assert runner.model.semi_test_cfg == {}


def _train(rank, ranks, port, results):
    import torch.distributed as dist
    from mmengine.registry import init_default_scope
    from test_semi_supervised import NONE, batch, build, total

    join_ranks(rank, ranks, port)
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=ranks)
    init_default_scope('mmdet')
    model = build(**(NONE if rank else {})).train()  # the second process finds nothing
    model.forward = lambda inputs, samples: total(model.loss(inputs, samples))[1]
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    loss = wrapped(*batch(*((0,) if rank else (2, 1))))
    loss.backward()
    norm = sum(float(value.grad.abs().sum()) for value in model.student.parameters() if value.grad is not None)
    Path(results, f'{rank}.txt').write_text(f'{float(loss.detach())} {norm}')
    dist.destroy_process_group()


def test_a_rank_without_labels_of_either_kind(tmp_path):
    run_ranks(_train, str(tmp_path))
    (loss, norm), (other_loss, other_norm) = (
        map(float, (tmp_path / f'{rank}.txt').read_text().split()) for rank in (0, 1)
    )
    assert loss > 0 and other_loss > 0 and norm > 0
    assert norm == pytest.approx(other_norm)  # the gradient is that of both
