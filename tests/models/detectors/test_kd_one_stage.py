"""Detectors that learn from a teacher."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

pytestmark = pytest.mark.usefixtures('default_scope')

BACKBONE = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    stem_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(1, 2),
    norm_eval=False,
)
NECK = dict(type='FPN', in_channels=[16, 32], out_channels=8, num_outs=2)
HEAD = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    norm_cfg=dict(type='GN', num_groups=2),
    anchor_generator=dict(
        type='AnchorGenerator', ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=[8, 16]
    ),
)
GFL = dict(HEAD, type='GFLHead', reg_max=4, loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True))
LD = dict(GFL, type='LDHead', loss_ld=dict(type='KnowledgeDistillationKLDivLoss', loss_weight=0.25, T=10))
LAD_HEAD = dict(HEAD, type='LADHead', reg_decoded_bbox=True, loss_cls=dict(type='FocalLoss', use_sigmoid=True))
LAD_HEAD.update(loss_bbox=dict(type='GIoULoss'), loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True))
ATSS = dict(assigner=dict(type='ATSSAssigner', topk=4), allowed_border=-1, pos_weight=-1)
PAA = dict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0),
    allowed_border=-1,
    pos_weight=-1,
)
TEST = dict(nms_pre=50, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6), max_per_img=10)
for head in (GFL, LD):
    head.update(loss_bbox=dict(type='GIoULoss'))


def with_coder(head):
    stds = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
    return dict(head, bbox_coder=stds) if head is LAD_HEAD else head


def build(kind, **changes):
    torch.manual_seed(0)
    student = dict(backbone=BACKBONE, neck=NECK, test_cfg=TEST)
    if kind == 'LAD':
        head = with_coder(LAD_HEAD)
        student.update(type='LAD', bbox_head=head, train_cfg=PAA)
        student.update(teacher_backbone=BACKBONE, teacher_neck=NECK, teacher_bbox_head=head)
    else:
        teacher = dict(type='GFL', backbone=BACKBONE, neck=NECK, bbox_head=GFL, train_cfg=ATSS, test_cfg=TEST)
        student.update(type='KnowledgeDistillationSingleStageDetector', bbox_head=LD, train_cfg=ATSS)
        student.update(teacher_config=dict(model=teacher))
    return MODELS.build(ConfigDict(copy.deepcopy({**student, **changes})))


def samples(*counts):
    boxes = torch.tensor([[4.0, 6, 30, 34], [20, 10, 60, 58], [1, 1, 33, 32]])
    out = []
    for count in counts:
        meta = dict(img_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64), ori_shape=(64, 64))
        sample = DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(bboxes=boxes[:count], labels=torch.arange(3)[:count])
        out.append(sample)
    return out


def total(losses):
    return sum(sum(value) if isinstance(value, list) else value for value in losses.values())


@pytest.mark.parametrize('counts', [(3, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize('kind', ['LD', 'LAD'])
def test_the_student_learns_and_the_teacher_does_not(kind, counts):
    model = build(kind).train()
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(*counts))
    assert ('loss_ld' if kind == 'LD' else 'loss_iou') in losses
    total(losses).backward()
    assert total(losses).isfinite()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    assert all(value.grad is None and not value.requires_grad for value in model.teacher_model.parameters())


@pytest.mark.parametrize('kind', ['LD', 'LAD'])
def test_the_teacher_is_no_part_of_the_detector(kind):
    model = build(kind)
    assert not any('teacher' in key for key in model.state_dict())
    assert {id(value) for value in model.parameters()}.isdisjoint(map(id, model.teacher_model.parameters()))
    model.train()
    assert model.training and not model.teacher_model.training
    assert model.double() is model
    assert next(model.teacher_model.parameters()).dtype == torch.double  # moves along
    assert build(kind, eval_teacher=False).train().teacher_model.training


def test_weights_of_the_teacher(tmp_path):
    model = build('LD')
    expected = {key: torch.full_like(value, 0.5) for key, value in model.teacher_model.state_dict().items()}
    torch.save(dict(state_dict=expected), tmp_path / 'teacher.pth')
    taught = build('LD', teacher_ckpt=str(tmp_path / 'teacher.pth'))
    taught.loss(torch.randn(1, 3, 64, 64), samples(1))  # read at the latest now
    weight = taught.teacher_model.bbox_head.gfl_cls.weight
    assert weight.eq(0.5).all()
    initialised = build('LD', teacher_ckpt=str(tmp_path / 'teacher.pth'))
    initialised.init_weights()
    assert initialised.teacher_model.bbox_head.gfl_cls.weight.eq(0.5).all()


def test_a_config_of_the_teacher_that_is_absent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"teacher_config='configs/none\.py': there is no such file"):
        build('LD', teacher_config='configs/none.py')


def test_the_loss_of_a_level_of_ld():
    """An own ``loss_by_feat_single`` that calls super is called level by level, and changes nothing."""
    model, calls = build('LD'), []
    inputs, data = torch.randn(2, 3, 64, 64), samples(3, 1)
    expected = total(model.eval().loss(inputs, data))

    class Research(type(model.bbox_head)):
        def loss_by_feat_single(self, *args, **kwargs):
            calls.append(len(args))
            return super().loss_by_feat_single(*args, **kwargs)

    model.bbox_head.__class__ = Research
    torch.testing.assert_close(total(model.loss(inputs, data)), expected)
    assert len(calls) == 2


def test_lad_without_a_teacher_is_its_own():
    model = build('LAD').eval()
    outs = model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    data = samples(3, 0)
    fields = [s.gt_instances for s in data], [s.metainfo for s in data], None
    chosen = model.bbox_head.get_label_assignment(*outs, *fields)
    labels, _, boxes, _, places, anchors, count = chosen
    assert len(places) == len(anchors) == count == ((labels >= 0) & (labels < 3)).sum()
    assert boxes.shape == (len(labels), 4)
    torch.testing.assert_close(
        total(model.bbox_head.loss_by_feat(*outs, *fields)), total(model.bbox_head.loss_by_feat(*outs, *fields, chosen))
    )
