import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.test_time_augs import (
    DetTTAModel,
    merge_aug_bboxes,
    merge_aug_masks,
    merge_aug_proposals,
    merge_aug_results,
)
from mmdet.structures import DetDataSample

ORI_SHAPE = (100, 200)


class Detector(torch.nn.Module):
    """Answers each call of ``test_step`` with the next batch of data samples."""

    def __init__(self, answers=()):
        super().__init__()
        self.answers = list(answers)

    def test_step(self, data):
        return self.answers.pop(0)


def sample(bboxes, scores, labels=None, flip_direction=None, **fields):
    """A prediction in pixels of the flipped original image."""
    pred = InstanceData(
        bboxes=torch.tensor(bboxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor([0] * len(scores) if labels is None else labels),
        **fields,
    )
    meta = dict(ori_shape=ORI_SHAPE, flip=flip_direction is not None, flip_direction=flip_direction)
    return DetDataSample(metainfo=meta, pred_instances=pred)


def merge(samples, **tta_cfg):
    model = DetTTAModel(tta_cfg, module=Detector([[s] for s in samples]))
    (merged,) = model.test_step(dict(inputs=[[None]] * len(samples)))
    return merged.pred_instances


@pytest.mark.parametrize(
    'direction, box',
    [('horizontal', [150, 10, 190, 30]), ('vertical', [10, 70, 50, 90]), ('diagonal', [150, 70, 190, 90])],
)
def test_flips_are_undone(direction, box):
    plain = sample([[10, 10, 50, 30], [120, 20, 160, 80]], [0.6, 0.5], [0, 1])
    flipped = sample([box], [0.9], [0], direction)
    merged = merge([plain, flipped], nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    assert merged.bboxes.tolist() == [[10, 10, 50, 30], [120, 20, 160, 80]]
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5])
    assert merged.labels.tolist() == [0, 1]


def test_most_detections_and_none():
    many = sample([[20 * i, 0, 20 * i + 10, 10] for i in range(8)], [0.1 * i for i in range(1, 9)])
    nms = dict(type='nms', iou_threshold=0.5)
    assert merge([many, many.clone()], nms=nms, max_per_img=3).scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert merge([many], merge='vote', max_per_img=3).scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    for options in (dict(nms=nms), dict(merge='vote'), dict(merge='soft-vote')):
        assert len(merge([sample([], [])] * 2, max_per_img=3, **options)) == 0


def test_masks_follow_their_boxes():
    mask = torch.zeros(1, *ORI_SHAPE, dtype=torch.bool)
    mask[:, 10:30, 10:50] = True
    plain = sample([[10, 10, 50, 30]], [0.6], masks=mask)
    flipped = sample([[150, 10, 190, 30]], [0.9], None, 'horizontal', masks=mask.flip(-1))
    merged = merge([plain, flipped], nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert torch.equal(merged.masks, mask)
    with pytest.raises(ValueError, match="merge='nms'"):
        merge([sample([[0, 0, 9, 9]], [0.5], masks=mask)], merge='vote')


def test_each_scale_keeps_its_sizes():
    boxes = [[0, 0, 10, 10], [100, 0, 150, 50]]
    versions = [sample(boxes, [0.1 + i / 10, 0.15 + i / 10]) for i in range(4)]  # two scales, each twice
    merged = merge(versions, merge='vote', scale_ranges=[(20, 10000), (0, 20)])
    torch.testing.assert_close(merged.bboxes, torch.tensor(boxes, dtype=torch.float32))
    assert merged.scores.tolist() == pytest.approx([0.4, 0.25])  # the small one from the second scale
    with pytest.raises(ValueError, match='3 ranges, but the pipeline makes 4'):
        merge(versions, merge='vote', scale_ranges=[(0, 1)] * 3)


def test_wrong_options():
    with pytest.raises(ValueError, match="Did you mean 'soft-vote'"):
        DetTTAModel(dict(merge='softvote'), module=Detector())
    with pytest.raises(ValueError, match='iou_threshold'):
        DetTTAModel(dict(max_per_img=100), module=Detector())


META = dict(img_shape=(100, 200), scale_factor=(2.0, 2.0), flip=False, flip_direction=None)
FLIPPED = dict(META, flip=True, flip_direction='horizontal')


def test_results_of_all_versions_in_original_pixels():
    one = InstanceData(bboxes=torch.tensor([[20.0, 20, 40, 40]]), scores=torch.tensor([0.5]))
    two = InstanceData(bboxes=torch.tensor([[160.0, 20, 180, 40]]), scores=torch.tensor([0.7]))
    (merged,) = merge_aug_results([[one], [two]], [[META], [FLIPPED]])
    assert merged.bboxes.tolist() == [[10, 10, 20, 20]] * 2
    assert merged.scores.tolist() == pytest.approx([0.5, 0.7])
    assert one.bboxes.tolist() == [[20, 20, 40, 40]]
    proposals = [torch.tensor([[20.0, 20, 40, 40, 0.5]]), torch.tensor([[160.0, 20, 180, 40, 0.7]])]
    kept = merge_aug_proposals(proposals, [META, FLIPPED], dict(nms=dict(iou_threshold=0.7), max_per_img=5))
    assert kept.tolist() == [pytest.approx([10, 10, 20, 20, 0.7])]


def test_means_of_boxes_scores_and_masks():
    bboxes = [torch.tensor([[20.0, 20, 40, 40] * 2]), torch.tensor([[156.0, 20, 176, 40] * 2])]
    scores = [torch.tensor([[0.2, 0.8]]), torch.tensor([[0.4, 0.6]])]
    merged, mean = merge_aug_bboxes(bboxes, scores, [[META], [FLIPPED]])
    assert merged.tolist() == [[11, 10, 21, 20] * 2]
    assert mean.tolist() == [pytest.approx([0.3, 0.7])]
    left = torch.tensor([[[1.0, 0.0]]])
    assert merge_aug_masks([left, left], [META, FLIPPED]).tolist() == [[[0.5, 0.5]]]
    assert merge_aug_masks([left, left], [META, FLIPPED], weights=[3, 1]).tolist() == [[[0.75, 0.25]]]


def test_run_length_codes_are_refused():
    class Own(DetTTAModel):
        def _merge_single_sample(self, data_samples):
            raise AssertionError('not reached')

    coded = [sample([[0, 0, 4, 4]], [0.5], masks=[dict(size=[4, 4], counts=b'')]) for _ in range(2)]
    for kind in (DetTTAModel, Own):
        model = kind(tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5)), module=Detector())
        with pytest.raises(ValueError, match="leave mask_format='rle' out"):
            model.merge_preds([coded])
