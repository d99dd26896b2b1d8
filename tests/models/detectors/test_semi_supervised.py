"""A student that learns from labels and from what its teacher finds."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.engine.hooks import MeanTeacherHook
from mmdet.models.detectors import SoftTeacher
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi, bbox_project

sys.path.insert(0, str(Path(__file__).parents[1] / 'roi_heads'))
from two_stage_table import IMAGE, config_of, images, sample, total

pytestmark = pytest.mark.usefixtures('default_scope')

CFG = dict(
    freeze_teacher=True,
    sup_weight=1.0,
    unsup_weight=4.0,
    pseudo_label_initial_score_thr=0.25,
    rpn_pseudo_thr=0.26,
    cls_pseudo_thr=0.26,
    reg_pseudo_thr=0.2,
    jitter_times=4,
    jitter_scale=0.06,
    min_pseudo_bbox_wh=(0.01, 0.01),
)
NONE = dict(pseudo_label_initial_score_thr=1.0)
FEW = dict(rpn_pseudo_thr=1.0, cls_pseudo_thr=1.0, reg_pseudo_thr=0.0)  # found, but good for no loss
MIRROR = np.array([[-1, 0, IMAGE[1]], [0, 1, 0], [0, 0, 1]], np.float32)
BIGGER = np.diag([1.25, 0.9, 1]).astype(np.float32)


def config(name='Faster', **changes):
    detector = config_of(name)
    if isinstance(detector.train_cfg.rcnn, dict):
        detector.train_cfg.rcnn.sampler.num = detector.train_cfg.rpn.sampler.num = 10**6  # all: nothing is random
    preprocessor = dict(type='MultiBranchDataPreprocessor', data_preprocessor=detector.data_preprocessor)
    return ConfigDict(
        type='SoftTeacher',
        detector=detector,
        data_preprocessor=preprocessor,
        semi_train_cfg={**CFG, **changes},
        semi_test_cfg=dict(predict_on='teacher'),
    )


def build(name='Faster', kind=None, **changes):
    torch.manual_seed(0)
    model = MODELS.build(config(name, **changes) | (dict(type=kind) if kind else {}))
    model.teacher.load_state_dict(model.student.state_dict())
    return model


def batch(*counts, unlabelled=2):
    """Branches: ``counts`` labelled pictures, and others for the teacher, and mirrored for the student."""
    weak = images(unlabelled, seed=5)
    teacher, student = [sample(0) for _ in weak], [sample(0) for _ in weak]
    for first, second, matrix in zip(teacher, student, (np.eye(3, dtype=np.float32), BIGGER)):
        first.set_metainfo(dict(homography_matrix=matrix))
        second.set_metainfo(dict(homography_matrix=MIRROR @ matrix))
    inputs = dict(sup=images(len(counts)), unsup_teacher=weak, unsup_student=weak.flip(-1))
    return inputs, dict(
        sup=[sample(n, seed) for seed, n in enumerate(counts)], unsup_teacher=teacher, unsup_student=student
    )


@pytest.mark.parametrize('counts', [(3, 0), (0, 0)])
@pytest.mark.parametrize('changes', [{}, NONE, FEW], ids=['found', 'none', 'few'])
def test_the_student_learns_and_the_teacher_does_not(changes, counts):
    model = build(**changes).train()
    losses, loss = total(model.loss(*batch(*counts)))
    loss.backward()
    kinds = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'acc', 'loss_bbox')
    assert list(losses) == [f'{branch}_{kind}' for branch in ('sup', 'unsup') for kind in kinds]
    assert all(value.isfinite().all() for value in losses.values()), losses
    assert (losses['unsup_loss_bbox'] > 0) == (losses['unsup_loss_rpn_bbox'] > 0) == (not changes)
    assert all(value.grad is not None for value in model.student.parameters() if value.requires_grad)
    assert all(value.grad is None and not value.requires_grad for value in model.teacher.parameters())


def test_the_teacher_follows():
    model = build().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    total(model.loss(*batch(2, 1)))[1].backward()
    optimizer.step()
    before, after = (
        model.teacher.roi_head.bbox_head.fc_cls.weight.clone(),
        model.student.roi_head.bbox_head.fc_cls.weight,
    )
    assert not torch.equal(before, after)
    MeanTeacherHook(momentum=0.25).momentum_update(model, 0.25)
    torch.testing.assert_close(model.teacher.roi_head.bbox_head.fc_cls.weight, 0.75 * before + 0.25 * after)


def test_pseudo_labels_come_into_the_picture_of_the_student():
    model = build()
    inputs, samples = batch(1)
    found, info = model.get_pseudo_instances(inputs['unsup_teacher'], samples['unsup_teacher'])
    raw = model.teacher.predict(inputs['unsup_teacher'], copy.deepcopy(samples['unsup_teacher']), rescale=False)
    for i, (pseudo, own) in enumerate(zip(found, raw)):
        own = own.pred_instances[own.pred_instances.scores > 0.25]
        matrix = pseudo.homography_matrix
        torch.testing.assert_close(pseudo.gt_instances.bboxes, bbox_project(own.bboxes, np.linalg.inv(matrix), IMAGE))
        assert torch.equal(pseudo.gt_instances.scores, own.scores)
        assert len(pseudo.gt_instances.reg_uncs) == len(own) > 0
        assert info['img_shape'][i] == IMAGE and np.array_equal(info['homography_matrix'][i], matrix)
        assert info['metainfo'][i]['img_path'] == 'x.jpg'
    assert [len(level) for level in info['feat']] == [2, 2]
    kept = copy.deepcopy([pseudo.gt_instances.bboxes for pseudo in found])
    projected = model.project_pseudo_instances(found, samples['unsup_student'])
    assert projected is samples['unsup_student']
    for boxes, pseudo, student in zip(kept, found, projected):
        assert torch.equal(boxes, pseudo.gt_instances.bboxes)  # the teacher's are left as they were
        moved = bbox_project(boxes, student.homography_matrix, IMAGE)
        wide = ((moved[:, 2:] - moved[:, :2]) > 0.01).all(1)
        torch.testing.assert_close(student.gt_instances.bboxes, moved[wide])
    mirrored = projected[0].gt_instances.bboxes
    torch.testing.assert_close(mirrored[:, [0, 2]], IMAGE[1] - kept[0][:, [2, 0]])


def prepared(**changes):
    """A model and what the losses of pseudo labels take, with the student's proposals."""
    model = build(**changes).train()
    for parameter in model.student.roi_head.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    inputs, samples = batch(1)
    pseudo, info = model.get_pseudo_instances(inputs['unsup_teacher'], samples['unsup_teacher'])
    samples = model.project_pseudo_instances(pseudo, samples['unsup_student'])
    x = model.student.extract_feat(inputs['unsup_student'])
    return model, x, samples, info, model.rpn_loss_by_pseudo_instances(x, samples)[1]


@pytest.mark.parametrize('packed', [True, False])
def test_background_weighs_as_much_as_the_teacher_believes_in_it(packed):
    """Picture by picture, by the methods that handle one at a time."""
    model, x, samples, info, proposals = prepared()
    model.student.roi_head.leave_out_empty_slots = packed
    before = [len(s.gt_instances) for s in samples]
    losses = model.rcnn_cls_loss_by_pseudo_instances(x, proposals, samples, info)
    assert [len(s.gt_instances) for s in samples] == before

    head, bbox_head, teacher = model.student.roi_head, model.student.roi_head.bbox_head, model.teacher.roi_head
    drawn, projected = [], []
    for i, own in enumerate(samples):
        gt = own.gt_instances[own.gt_instances.scores > 0.26]
        found = InstanceData(priors=list(proposals)[i].bboxes)
        assigned = head.bbox_assigner.assign(found, gt, None)
        drawn.append(head.bbox_sampler.sample(assigned, found, gt))
        matrix = info['metainfo'][i]['homography_matrix'] @ np.linalg.inv(own.homography_matrix.astype(np.float64))
        projected.append(InstanceData(bboxes=bbox_project(drawn[-1].priors, matrix, IMAGE)))
    assert any(len(result.pos_inds) for result in drawn) and any(len(result.neg_inds) for result in drawn)
    rois = bbox2roi([result.priors for result in drawn])
    outs = head._bbox_forward(x, rois)
    labels, weights, *_ = targets = bbox_head.get_targets(drawn, head.train_cfg)
    with torch.no_grad():
        scores = torch.cat(
            [
                result.scores[:, -1]
                for result in teacher.predict_bbox(info['feat'], info['metainfo'], projected, rcnn_test_cfg=None)
            ]
        )
    negative = labels == bbox_head.num_classes
    weights[negative] = scores[negative]
    expected = bbox_head.loss(outs['cls_score'], outs['bbox_pred'], rois, *targets)
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'] * len(weights) / max(sum(weights), 1.0))
    torch.testing.assert_close(losses['acc'], expected['acc'])


def test_spread_of_the_teachers_boxes(monkeypatch):
    model = build()
    inputs, samples = batch(1)
    rng = torch.Generator().manual_seed(0)
    for one in samples['unsup_teacher']:
        one.gt_instances = sample(3, seed=7).gt_instances
    samples['unsup_teacher'][1].gt_instances = samples['unsup_teacher'][1].gt_instances[:1]
    copies = [
        one.gt_instances.bboxes + torch.randn(4, len(one.gt_instances), 4, generator=rng)
        for one in samples['unsup_teacher']
    ]
    monkeypatch.setattr(model, 'aug_box', lambda batch_data_samples, times, frac: copies)
    model.eval()
    with torch.no_grad():
        x = model.teacher.extract_feat(inputs['unsup_teacher'])
        spreads = model.compute_uncertainty_with_aug(x, samples['unsup_teacher'])
        results = model.teacher.roi_head.predict_bbox(
            x,
            [one.metainfo for one in samples['unsup_teacher']],
            [InstanceData(bboxes=boxes.reshape(-1, 4)) for boxes in copies],
            rcnn_test_cfg=None,
        )
    for spread, result, one in zip(spreads, results, samples['unsup_teacher']):
        labels = one.gt_instances.labels
        boxes = result.bboxes.view(4, len(labels), 3, 4)[:, torch.arange(len(labels)), labels]
        mean = boxes.mean(0)
        size = (mean[:, 2:] - mean[:, :2]).clamp(min=1)
        torch.testing.assert_close(spread, (boxes.std(0) / size.repeat(1, 2)).mean(1))


def test_boxes_are_trained_on_that_stay_put():
    model, x, samples, _, proposals = prepared()
    for own in samples:
        own.gt_instances.reg_uncs = torch.linspace(0, 0.4, len(own.gt_instances))
    loss = model.rcnn_reg_loss_by_pseudo_instances(x, proposals, samples)
    steady = copy.deepcopy(samples)
    for own in steady:
        own.gt_instances = own.gt_instances[own.gt_instances.reg_uncs < 0.2]
        assert 0 < len(own.gt_instances) < 10
    assert list(loss) == ['loss_bbox'] and loss['loss_bbox'] > 0
    torch.testing.assert_close(loss['loss_bbox'], model.student.roi_head.loss(x, proposals, steady)['loss_bbox'])


@pytest.mark.parametrize('name', ['Faster agnostic', 'Faster decoded', 'Double'])
def test_other_heads(name):
    losses, loss = total(build(name).train().loss(*batch(2, 0)))
    assert loss.isfinite() and losses['unsup_loss_cls'] > 0


@pytest.mark.parametrize('found', [True, False])
def test_the_base_with_any_detector(found):
    """Pseudo labels as labels; without one the losses count nothing, and all parameters have gradients."""
    model = build('Cascade', kind='SemiBaseDetector', cls_pseudo_thr=0.26 if found else 1.0).train()
    losses, loss = total(model.loss(*batch(2, 0)))
    loss.backward()
    assert loss.isfinite()
    assert all((value > 0) == found for key, value in losses.items() if key.startswith('unsup_loss_') and 'cls' in key)
    assert all(value.grad is not None for value in model.student.parameters() if value.requires_grad)


def test_weights_of_a_plain_detector_are_those_of_both():
    model, plain = build(), MODELS.build(config_of('Faster'))
    model.load_state_dict(plain.state_dict())
    for part in (model.student, model.teacher):
        assert all(torch.equal(value, plain.state_dict()[key]) for key, value in part.state_dict().items())
    other = build()
    other.teacher.rpn_head.rpn_cls.bias.data += 1
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.teacher.rpn_head.rpn_cls.bias, model.student.rpn_head.rpn_cls.bias + 1)
    assert next(iter(model.state_dict())) == 'student.backbone.conv1.weight'


@pytest.mark.parametrize('part', ['teacher', 'student'])
def test_who_predicts(part):
    model = build().eval()
    for parameter in model.student.parameters():
        parameter.data *= 1.1
    model.semi_test_cfg = dict(predict_on=part, forward_on=part, extract_feat_on=part)
    chosen, inputs = getattr(model, part), images(1)
    with torch.no_grad():
        assert torch.equal(model.extract_feat(inputs)[0], chosen.extract_feat(inputs)[0])
        (found,), (expected,) = (m(inputs, [sample(0)], mode='predict') for m in (model, chosen))
        assert torch.equal(found.pred_instances.scores, expected.pred_instances.scores)
        outputs = [m(inputs, [sample(0)], mode='tensor') for m in (model, chosen)]
        assert all(map(torch.equal, *outputs))


def test_research_code_takes_over():
    calls = []

    class Own(SoftTeacher):
        def get_pseudo_instances(self, batch_inputs, batch_data_samples):
            calls.append('pseudo')
            return super().get_pseudo_instances(batch_inputs, batch_data_samples)

        @staticmethod
        def aug_box(batch_data_samples, times, frac):
            calls.append(('jitter', times, frac))
            return [one.gt_instances.bboxes.expand(times, -1, -1) for one in batch_data_samples]

        def rcnn_reg_loss_by_pseudo_instances(self, x, unsup_rpn_results_list, batch_data_samples):
            assert all(one.gt_instances.reg_uncs.abs().max() < 1e-5 for one in batch_data_samples)
            return dict(loss_bbox=x[0].sum() * 0 + 2)

    settings = config()
    del settings['type'], settings['data_preprocessor']
    losses = Own(**settings).train().loss(*batch(1))
    assert calls == ['pseudo', ('jitter', 4, 0.06)]
    assert losses['unsup_loss_bbox'] == 8


def test_what_training_checks():
    """The labelled pictures are looked at as those of the student would be."""
    model = build().train()
    preprocessor = model.data_preprocessor
    assert (preprocessor.num_labels, preprocessor.needed) == (3, ('bboxes',))
    assert preprocessor.data_preprocessor.num_labels == 3 and preprocessor.semantic_labels is None
    bad = sample(1)
    bad.gt_instances.labels += 7
    data = dict(inputs=dict(sup=[torch.zeros(3, *IMAGE)], unsup=[None]), data_samples=dict(sup=[bad], unsup=[None]))
    with pytest.raises(ValueError, match='label'):
        preprocessor(data, True)
