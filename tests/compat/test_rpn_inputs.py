import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.models.dense_heads import RPNHead

TEST = ConfigDict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
TRAIN = ConfigDict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
    sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
    allowed_border=0,
    pos_weight=-1,
    debug=False,
)


@pytest.mark.parametrize('levels, left', [(None, 1), ((0, 0, 0), 1), ((0, 1, 2), 3)])
def test_post_processing_with_and_without_levels(levels, left):
    head, boxes = RPNHead(1, 1), torch.tensor([[0.0, 0, 9, 9]])
    candidates = InstanceData(bboxes=boxes.repeat(3, 1), scores=torch.tensor([0.1, 0.9, 0.5]))
    if levels is not None:
        candidates.level_ids = torch.tensor(levels)
    found = head._bbox_post_process(candidates, TEST, img_meta={})
    assert len(found) == left and found.scores[0] == 0.9 and found.labels.tolist() == [0] * left
    empty = head._bbox_post_process(candidates[:0], TEST, img_meta={})
    assert empty.bboxes.shape == (0, 4) and empty.scores.shape == empty.labels.shape == (0,)


@pytest.mark.parametrize('change', [dict(pad_shape=(0, 0, 3)), dict(img_shape=(0, 64, 3))])
def test_a_picture_without_room_for_an_anchor(change):
    head = RPNHead(1, 1, train_cfg=TRAIN)
    outs = head([torch.rand(1, 1, 64 // stride, 64 // stride) for stride in (4, 8, 16, 32, 64)])
    gt = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([0]))
    meta = dict(img_shape=(64, 64, 3), pad_shape=(64, 64, 3), scale_factor=1)
    assert head.loss_by_feat(*outs, [gt], [meta])['loss_rpn_cls'][0] > 0
    with pytest.raises(ValueError, match='no anchor lies inside'):
        head.loss_by_feat(*outs, [gt], [meta | change])
