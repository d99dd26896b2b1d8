"""mmdet.testing: what the tests of research code build their inputs with."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdet import testing
from mmdet.registry import HOOKS, MODELS
from mmdet.structures.bbox import HorizontalBoxes


def test_inputs_are_the_same_on_every_call():
    first, second = (testing.demo_mm_inputs(2, [(3, 64, 96), (3, 32, 32)], with_mask=True) for _ in range(2))
    assert [tuple(picture.shape) for picture in first['inputs']] == [(3, 64, 96), (3, 32, 32)]
    assert all(torch.equal(a, b) for a, b in zip(first['inputs'], second['inputs'], strict=True))
    sample = first['data_samples'][0]
    boxes = sample.gt_instances.bboxes
    assert torch.equal(boxes, second['data_samples'][0].gt_instances.bboxes)
    assert 1 <= len(boxes) < 10 and (boxes[:, 2:] >= boxes[:, :2]).all()
    assert boxes.min() >= 0 and (boxes <= torch.tensor([96, 64, 96, 64])).all()
    assert sample.gt_instances.masks.masks.shape == (len(boxes), 64, 96)
    assert (sample.img_shape, sample.ori_shape) == ((64, 96), (64, 96))
    assert len(sample.ignored_instances.bboxes) == len(boxes)


def test_inputs_as_asked():
    batch = testing.demo_mm_inputs(
        2,
        (3, 32, 32),
        num_items=[0, 4],
        num_classes=3,
        sem_seg_output_strides=8,
        with_semantic=True,
        use_box_type=True,
        texts=['a cat', 'a dog'],
    )
    empty, full = batch['data_samples']
    assert len(empty.gt_instances) == 0 and len(full.gt_instances) == 4
    assert isinstance(full.gt_instances.bboxes, HorizontalBoxes)
    assert full.gt_sem_seg.sem_seg.shape == (1, 4, 4)
    assert (full.text, full.custom_entities) == ('a dog', False)
    for wrong in (dict(image_shapes=[(3, 8, 8)]), dict(num_items=[1])):
        with pytest.raises(AssertionError, match='batch of 2'):
            testing.demo_mm_inputs(2, **wrong)


def test_videos():
    batch = testing.demo_track_inputs(2, 3, key_frames_inds=[0], num_items=[2, 1], num_classes=4, with_mask=True)
    assert batch['inputs'][0].shape == (3, 3, 128, 128)
    video = batch['data_samples'][0]
    assert len(video) == 3 and (video.key_frames_inds, video.ref_frames_inds) == ([0], [1, 2])
    frame = video[1]
    assert frame.frame_id == 1 and len(frame.gt_instances.instances_ids) == 2
    with pytest.raises(AssertionError, match='key_frames_inds'):
        testing.demo_track_inputs(1, 2, key_frames_inds=[2])


def test_sampled_proposals():
    batch = testing.demo_mm_inputs(2, (3, 64, 64), num_items=[3, 0])
    proposals = testing.demo_mm_proposals([(3, 64, 64)] * 2, 30)
    assert proposals[0].bboxes.shape == (30, 4) and proposals[0].scores.shape == (30,)
    truths = [sample.gt_instances for sample in batch['data_samples']]
    feats = [torch.zeros(2, 4, 8, 8)]
    with_objects, without = testing.demo_mm_sampling_results(proposals, truths, feats=feats)
    assert len(with_objects.pos_priors) >= 3 and len(without.pos_priors) == 0
    with pytest.raises(AssertionError, match='2 pictures'):
        testing.demo_mm_sampling_results(proposals, truths[:1])


def test_random_boxes():
    boxes = testing.random_boxes(5, 10, rng=3)
    assert torch.equal(boxes, testing.random_boxes(5, 10, rng=np.random.RandomState(3)))
    assert boxes.shape == (5, 4) and (boxes[:, 2:] >= boxes[:, :2]).all() and 1 < boxes.max() <= 10


def test_configs_of_models(default_scope):
    cfg = testing.get_detector_cfg('retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg)
    losses = model(**model.data_preprocessor(testing.demo_mm_inputs(1, (3, 64, 64)), True), mode='loss')
    assert losses['loss_cls'][0].isfinite()
    head = testing.get_roi_head_cfg('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    assert head.type == 'StandardRoIHead' and head.train_cfg.sampler.num == 512 and head.test_cfg.max_per_img == 100
    MODELS.build(head)


def test_configs_of_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / 'site-packages' / 'mmdet'
    package.mkdir(parents=True)
    monkeypatch.setattr('mmdet.__file__', str(package / '__init__.py'))
    with pytest.raises(FileNotFoundError, match=r'\.mim'):
        testing.get_detector_cfg('a/b.py')
    configs = package / '.mim' / 'configs'
    (configs / '_base_').mkdir(parents=True)
    (configs / '_base_' / 'model.py').write_text("model = dict(type='RetinaNet', bbox_head=dict(num_classes=80))")
    (configs / 'a').mkdir()
    (configs / 'a' / 'b.py').write_text("_base_ = '../_base_/model.py'\nmodel = dict(bbox_head=dict(num_classes=3))")
    assert testing.get_detector_cfg('a/b.py') == dict(type='RetinaNet', bbox_head=dict(num_classes=3))


def test_object_storage():
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))
            ),
            val_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadAnnotations'), dict(type='Resize')])),
            val_evaluator=[dict(type='CocoPanopticMetric'), dict(type='CocoMetric')],
        )
    )
    testing.replace_to_ceph(cfg)
    assert cfg.train_dataloader.dataset.dataset.pipeline[0].backend_args.backend == 'petrel'
    load, resize = cfg.val_dataloader.dataset.pipeline
    assert 'backend_args' in load and 'backend_args' not in resize
    assert ['backend_args' in metric for metric in cfg.val_evaluator] == [True, False]


@pytest.mark.parametrize('by_epoch, save_ckpt, epochs', [(False, True, 0), (True, False, 0), (True, True, 2)])
def test_training_is_stopped(by_epoch, save_ckpt, epochs):
    hook = testing.FastStopTrainingHook(by_epoch, save_ckpt, stop_iter_or_epoch=2)
    assert HOOKS.get('FastStopTrainingHook') is testing.FastStopTrainingHook
    done = []
    with pytest.raises(RuntimeError, match='after 2'):
        for step in range(9):
            runner = SimpleNamespace(iter=step, epoch=step // 3)
            done.append(step)
            hook.after_train_iter(runner, step % 3)
            if step % 3 == 2:
                hook.after_train_epoch(runner)
    assert len(done) == (6 if epochs else 2)
