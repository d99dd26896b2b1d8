"""What all detectors share."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.errors import UserError
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample


def config(**more):
    return ConfigDict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(
            type='ResNet', depth=18, base_channels=8, num_stages=2, out_indices=(0, 1), strides=(1, 2),
            dilations=(1, 1), init_cfg=None,
        ),
        neck=dict(type='FPN', in_channels=[8, 16], out_channels=16, num_outs=2),
        bbox_head=dict(
            type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8]),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4), allowed_border=-1),
        test_cfg=dict(nms_pre=50, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
        **more,
    )  # fmt: skip


def sample(scale=1.0):
    out = DetDataSample(
        metainfo=dict(img_shape=(32, 48), pad_shape=(32, 48), ori_shape=(64, 96), scale_factor=(scale, scale))
    )
    out.gt_instances = InstanceData(bboxes=torch.tensor([[2.0, 3, 20, 24]]), labels=torch.tensor([1]))
    return out


@pytest.fixture
def model(default_scope):
    torch.manual_seed(0)
    return MODELS.build(config())


def test_what_the_user_passed_stays_as_it_is(default_scope):
    given = config()
    MODELS.build(given)
    assert 'train_cfg' not in given.bbox_head and given.type == 'RetinaNet'


def test_modes(model):
    x = torch.randn(1, 3, 32, 48)
    assert set(model(x, [sample()], mode='loss')) == {'loss_cls', 'loss_bbox'}
    scores, boxes = model(x, mode='tensor')
    assert [level.shape for level in scores] == [(1, 3, 8, 12), (1, 3, 4, 6)] and len(boxes) == 2
    assert len(model.eval()(x, [sample()], mode='predict')[0].pred_instances) == 5
    with pytest.raises(RuntimeError, match="'loss', 'predict' or 'tensor', not 'train'"):
        model(x, mode='train')


def test_predictions_are_those_of_the_image_alone_and_rescale(model):
    model.eval()
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        both = model.predict(x, [sample(), sample(0.5)], rescale=True)
        alone = model.predict(x[1:], [sample()], rescale=True)
    torch.testing.assert_close(both[1].pred_instances.scores, alone[0].pred_instances.scores)
    torch.testing.assert_close(both[1].pred_instances.bboxes, alone[0].pred_instances.bboxes * 2)


def test_weights_of_a_trained_rpn_become_the_head(model):
    state = {key.replace('bbox_head.', 'rpn_head.'): value for key, value in model.state_dict().items()}
    other = MODELS.build(config())
    other.load_state_dict(state)
    assert torch.equal(other.bbox_head.retina_cls.weight, model.bbox_head.retina_cls.weight)


def test_train_step_and_ignored_regions(model):
    from mmengine.optim import OptimWrapper

    one = sample()
    one.ignored_instances = InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 30]]), labels=torch.tensor([0]))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    data = dict(inputs=[torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)], data_samples=[one])
    before = model.bbox_head.retina_cls.weight.clone()
    logs = model.train_step(data, wrapper)
    assert logs['loss'].isfinite() and not torch.equal(before, model.bbox_head.retina_cls.weight)


def test_unknown_names_and_arguments(default_scope):
    with pytest.raises(KeyError, match=r"'RetinaNett' is not in the 'model' registry.*Did you mean.*RetinaNet"):
        MODELS.build(dict(type='RetinaNett'))
    wrong = config()
    wrong.bbox_head.num_clases = wrong.bbox_head.pop('num_classes')
    with pytest.raises(ValueError, match=r"RetinaHead has no argument 'num_clases'.*num_classes"):
        MODELS.build(wrong)


def test_ground_truth_that_no_loss_may_see(model):
    """A batch is looked at where all batches pass, whatever made it."""
    model.train()
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)

    def losses(boxes, labels):
        batch = sample()
        batch.set_metainfo(dict(img_path='a.jpg'))
        batch.gt_instances = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
        data = model.data_preprocessor(dict(inputs=[image], data_samples=[batch]), training=True)
        return {name: sum(map(torch.sum, value)) for name, value in model(**data, mode='loss').items()}

    good = losses([[2.0, 3, 20, 24]], [1])
    assert losses([[2.0, 3, 20, 24], [5, 5, 5, 9]], [1, 2]) == good
    for boxes, labels, words in (
        ([[2.0, 3, float('nan'), 24]], [1], 'a.jpg: box 0 .* nan'),
        ([[2.0, 3, 20, 24]], [3], 'a.jpg: box 0 has the label 3, but the model has the classes 0 to 2'),
    ):
        with pytest.raises(UserError, match=words):
            losses(boxes, labels)
