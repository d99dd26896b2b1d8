"""What becomes of queries with a class and a mask each, on pictures of 4 x 4 pixels. Classes 0 to 2 are things, 3 and
4 stuff, and 5 is no class."""

import pytest
import torch
from mmengine.config import ConfigDict

from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmdet.structures import DetDataSample
from mmdet.structures.mask import INSTANCE_OFFSET

VOID = 5


def fusion(**test_cfg):
    return MaskFormerFusionHead(3, 2, test_cfg=ConfigDict(test_cfg))


def classes(*labels, sure=8.0):
    """Logits of queries that are all but certain; 8 means a probability of 0.998."""
    return torch.nn.functional.one_hot(torch.tensor(labels), 6) * sure


def masks(*pictures):
    """A digit is a logit's size: positive where it is above 5, negative below."""
    rows = [[[float(digit) - 5 for digit in row] for row in picture.split()] for picture in pictures]
    return torch.tensor(rows)


LEFT, RIGHT = '9911 9911 9911 9911', '1199 1199 1199 1199'
BOTTOM = '1111 1111 9999 9999'
ALL = '9999 9999 9999 9999'
TOP = '9999 9999 1111 1111'


def panoptic(labels, pictures, **test_cfg):
    scores = classes(*labels) if isinstance(labels, tuple) else labels
    found = fusion(**test_cfg).panoptic_postprocess(scores, masks(*pictures)).sem_seg
    assert found.shape == (1, 4, 4) and found.dtype == torch.int32
    return found[0]


def test_two_things_of_a_class_are_two_instances():
    found = panoptic((1, 1), (LEFT, RIGHT))
    first, second = 1 + INSTANCE_OFFSET, 1 + 2 * INSTANCE_OFFSET
    assert found.tolist() == [[first, first, second, second]] * 4


def test_stuff_of_a_class_is_one_segment():
    found = panoptic((3, 3, 0), (LEFT, '1111 1111 1119 1119', '1199 1199 1111 1111'))
    thing = INSTANCE_OFFSET
    # Nobody claims the last two pixels of the third column, but the surest of all gets them nevertheless.
    assert found[:, [0, 1, 3]].tolist() == [[3, 3, thing]] * 2 + [[3, 3, 3]] * 2


@pytest.mark.parametrize('threshold, left', [(0.4, 2 * [2 + INSTANCE_OFFSET]), (0.6, 2 * [VOID])])
def test_who_gets_too_little_gets_nothing(threshold, left):
    """The thing everywhere is surer of its upper half, which is half of what it claims."""
    pictures = ('9999 9999 7777 7777', '1111 1111 9999 9999')
    found = panoptic((2, 4), pictures, iou_thr=threshold)
    assert found[0, :2].tolist() == left and (found[2:] == 4).all()


def test_who_is_not_sure_does_not_compete():
    scores = classes(0, 3)
    scores[0] = torch.tensor([2.0, 0, 0, 0, 0, 0])  # 0.6 of probability
    assert (panoptic(scores, (LEFT, ALL)) == 3).all()
    assert panoptic(scores, (LEFT, RIGHT), object_mask_thr=0.5)[0].tolist() == [INSTANCE_OFFSET] * 2 + [3] * 2


def test_background_and_nothing_at_all():
    assert (panoptic((5, 3), (ALL, TOP)) == 3).all()
    assert (panoptic((5, 5), (ALL, TOP)) == VOID).all()


def test_pixels_that_nobody_claims():
    assert panoptic((3,), (TOP,), iou_thr=0.0).tolist() == [[3] * 4] * 4
    assert panoptic((3,), (TOP,), filter_low_score=True).tolist() == [[3] * 4] * 2 + [[VOID] * 4] * 2


def by_loop(scores, logits, overlap, sure, low):
    """As the paper says it, one query after the other."""
    probability, labels = scores.softmax(-1).max(-1)
    keep = [q for q in range(len(labels)) if labels[q] < VOID and probability[q] > sure]
    out, number = torch.full(logits.shape[1:], VOID), 1
    if not keep:
        return out
    inside = logits.sigmoid()
    owner = torch.stack([probability[q] * inside[q] for q in keep]).argmax(0)
    for place, q in enumerate(keep):
        won, claimed = owner == place, inside[q] >= 0.5
        if not won.any() or not claimed.any() or float(won.sum()) / float(claimed.sum()) < overlap:
            continue
        own = won & claimed if low else won
        out[own] = labels[q] if labels[q] >= 3 else labels[q] + INSTANCE_OFFSET * number
        number += int(labels[q] < 3)
    return out


@pytest.mark.parametrize('seed', range(8))
def test_panoptic_maps_are_those_of_a_loop(seed):
    torch.manual_seed(seed)
    scores, logits = torch.randn(9, 6) * 3, torch.randn(9, 12, 10) + torch.randn(9, 1, 1)
    for overlap, sure, low in ((0.1, 0.3, False), (0.3, 0.3, True), (0.2, 0.99, True)):
        head = fusion(iou_thr=overlap, object_mask_thr=sure, filter_low_score=low)
        found = head.panoptic_postprocess(scores, logits).sem_seg[0]
        assert torch.equal(found.long(), by_loop(scores, logits, overlap, sure, low))


def test_semantic_maps_are_votes():
    """Two unsure queries of one class outvote a surer one; background has no vote."""
    scores = torch.tensor([[0.6, 0, 0, 0, 0, 0.4], [0, 0, 0, 0.45, 0, 0.55], [0, 0, 0, 0.45, 0, 0.55]]).log()
    found = fusion().semantic_postprocess(scores, masks(ALL, LEFT, LEFT)).sem_seg
    assert found.tolist() == [[[3, 3, 0, 0]] * 4]


def test_instances():
    scores = torch.tensor([[0.7, 0.2, 0, 0, 0, 0.1], [0, 0, 0, 0.9, 0, 0.1], [0, 0.6, 0, 0, 0, 0.4]]).log()
    pictures = masks('9911 9911 1111 1111', ALL, '1111 1111 1119 1117')
    found = fusion(max_per_image=3).instance_postprocess(scores, pictures)
    order = found.scores.argsort(descending=True)
    sure, less = torch.tensor(4.0).sigmoid(), torch.tensor(2.0).sigmoid()
    assert found.labels[order].tolist() == [0, 1]  # stuff takes one of three places and is no instance
    assert found.bboxes[order].tolist() == [[0, 0, 2, 2], [3, 2, 4, 4]]
    torch.testing.assert_close(found.scores[order], torch.stack([0.7 * sure, 0.6 * (sure + less) / 2]))
    assert found.masks.dtype == torch.bool and found.masks[order].flatten(1).sum(1).tolist() == [4, 2]
    # A query may be an instance of two classes; there are no more pairs than queries times classes.
    everything = fusion(max_per_image=100).instance_postprocess(scores, pictures)
    assert len(everything) == 3 * 3


def test_empty_masks_have_no_score_and_no_box():
    found = fusion().instance_postprocess(classes(0), masks('1111 1111 1111 1111'))
    assert (found.scores == 0).all() and (found.bboxes == 0).all()


@pytest.mark.parametrize('rescale, size', [(False, (3, 4)), (True, (6, 8))])
def test_results_have_the_size_of_the_picture(rescale, size):
    sample = DetDataSample(metainfo=dict(img_shape=(3, 4), ori_shape=(6, 8)))
    head = fusion(panoptic_on=True, semantic_on=True, instance_on=True)
    (found,) = head.predict(classes(0, 3)[None], masks(LEFT, RIGHT)[None], [sample], rescale=rescale)
    assert found['pan_results'].sem_seg.shape == found['sem_results'].sem_seg.shape == (1, *size)
    assert found['ins_results'].masks.shape[1:] == size
    only = fusion(instance_on=True, panoptic_on=False).predict(classes(0)[None], masks(LEFT)[None], [sample])
    assert list(only[0]) == ['ins_results'] and head.loss() == {} and not head.with_loss
    assert list(MaskFormerFusionHead(3, 2).predict(classes(0)[None], masks(LEFT)[None], [sample])[0]) == ['pan_results']
