import numpy as np
import pytest

from mmdet.evaluation import average_precision, bbox_overlaps, eval_map, eval_recalls, get_classes
from mmdet.evaluation.functional.mean_ap import tpfp_default, tpfp_imagenet, tpfp_openimages

DETS = np.array(
    [
        [0, 0, 10, 10, 0.9],
        [10, 10, 20, 20, 0.8],
        [32, 32, 38, 42, 0.7],
        [1, 1, 11, 11, 0.95],
    ],
    dtype=np.float32,
)
GTS = np.array([[0, 0, 10, 20], [0, 10, 10, 19], [10, 10, 20, 20]], dtype=np.float32)
IGNORED = np.array([[31, 31, 39, 43]], dtype=np.float32)


def test_average_precision():
    recall, precision = np.array([0.1, 0.5, 0.5, 0.9]), np.array([1.0, 0.8, 0.6, 0.7])
    assert average_precision(recall, precision) == pytest.approx(0.1 * 1 + 0.4 * 0.8 + 0.4 * 0.7)
    # 0, 0.1 | 0.2 ... 0.5 | 0.6 ... 0.9 | 1.0
    assert average_precision(recall, precision, '11points') == pytest.approx((2 * 1 + 4 * 0.8 + 4 * 0.7) / 11)
    both = average_precision(np.stack([recall] * 2), np.stack([precision] * 2))
    assert both.shape == (2,)
    assert average_precision(np.zeros(0), np.zeros(0)) == average_precision(np.zeros(0), np.zeros(0), '11points') == 0
    with pytest.raises(ValueError, match='12points'):
        average_precision(recall, precision, '12points')


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10]])
    np.testing.assert_allclose(bbox_overlaps(boxes, boxes)[0], [1, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(bbox_overlaps(boxes, boxes, 'iof')[0], [1, 0.5], rtol=1e-6)
    legacy = bbox_overlaps(boxes, boxes, use_legacy_coordinate=True)
    np.testing.assert_allclose(legacy[0, 1], 66 / 176, rtol=1e-6)
    assert bbox_overlaps(boxes[:0], boxes).shape == (0, 2)


def test_voc_flags():
    # The best scored box overlaps the first object too little, so it is wrong; the third lies on an ignored box.
    tp, fp = tpfp_default(DETS, GTS, IGNORED, 0.5)
    np.testing.assert_array_equal(tp, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(fp, [[0, 0, 0, 1]])
    twice = np.concatenate([DETS[:1], DETS[:1]])
    twice[1, 4] = 0.99
    tp, fp = tpfp_default(twice, GTS)
    np.testing.assert_array_equal(tp, [[0, 1]])
    np.testing.assert_array_equal(fp, [[1, 0]])
    tp, fp = tpfp_default(DETS, GTS, IGNORED, 0.5, area_ranges=[(None, None), (95, 105), (150, 1000)])
    np.testing.assert_array_equal(tp, [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(fp, [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize('tpfp', [tpfp_default, tpfp_imagenet])
def test_flags_without_ground_truth_or_detections(tpfp):
    tp, fp = tpfp(DETS, GTS[:0], None)
    assert tp.sum() == 0 and fp.tolist() == [[1, 1, 1, 1]]
    tp, fp = tpfp(DETS[:0], GTS, IGNORED)
    assert tp.shape == fp.shape == (1, 0)
    assert tpfp(DETS, GTS[:0], None, area_ranges=[(0, 90)])[1].tolist() == [[0, 0, 1, 0]]


def test_imagenet_takes_the_best_that_is_free():
    gts = np.array([[0, 0, 10, 10], [0, 0, 10, 12]], dtype=np.float32)
    dets = np.array([[0, 0, 9, 10, 0.9], [0, 0, 9, 9.5, 0.8], [0, 0, 9, 9, 0.7]], dtype=np.float32)
    tp, fp = tpfp_imagenet(dets, gts)
    assert tp.tolist() == [[1, 1, 0]] and fp.tolist() == [[0, 0, 1]]
    assert tpfp_default(dets, gts)[0].sum() == 1


def test_open_images_counts_one_detection_of_a_group():
    gts = np.array([[0, 0, 100, 100], [200, 200, 220, 220]], dtype=np.float32)
    dets = np.array(
        [[10, 10, 30, 30, 0.6], [40, 40, 70, 70, 0.8], [200, 200, 220, 220, 0.7], [300, 300, 310, 310, 0.5]],
        dtype=np.float32,
    )
    tp, fp, kept = tpfp_openimages(dets, gts, gt_bboxes_group_of=np.array([True, False]), ioa_thr=0.5)
    assert kept[:, 4].tolist() == pytest.approx([0.7, 0.5, 0.8])
    assert tp.tolist() == [[1, 0, 1]] and fp.tolist() == [[0, 1, 0]]
    assert tpfp_openimages(dets, gts, gt_bboxes_group_of=np.array([False, False]))[0].sum() == 1


def test_eval_map():
    empty = np.zeros((0, 5), dtype=np.float32)
    results = [[DETS, empty], [empty, DETS[:1]]]
    annotations = [
        dict(bboxes=GTS, labels=np.array([0, 0, 0]), bboxes_ignore=IGNORED, labels_ignore=np.array([0])),
        dict(bboxes=GTS[:0], labels=np.zeros(0, dtype=int)),
    ]
    mean_ap, per_class = eval_map(results, annotations, iou_thr=0.5, logger='silent')
    # by score: wrong, right, ignored, right of three objects
    assert mean_ap == pytest.approx(2 / 3 * 2 / 3, abs=1e-6)
    assert (per_class[0]['num_gts'], per_class[0]['num_dets'], per_class[1]['num_gts']) == (3, 4, 0)
    several, _ = eval_map(results, annotations, scale_ranges=[(0, 9.9), (9.9, 100)], logger='silent')
    assert len(several) == 2
    assert several[0] == 0
    with pytest.raises(ValueError, match='2 images with detections, but 1'):
        eval_map(results, annotations[:1])


def test_recall_matches_one_to_one():
    gt = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], dtype=np.float32)
    proposals = np.array([[0, 0, 10, 9, 0.5], [0, 0, 10, 10, 0.9], [50, 50, 60, 60, 0.7]], dtype=np.float32)
    recalls = eval_recalls([gt], [proposals], (1, 3), (0.5, 0.95), logger='silent')
    # one proposal: the second object has none left; three: both at 0.5, only the exact one at 0.95
    np.testing.assert_allclose(recalls, [[0.5, 0.5], [1, 0.5]])
    assert eval_recalls([gt[:0]], [proposals[:0]], 10, logger='silent').tolist() == [[0]]


def test_class_names():
    assert len(get_classes('coco')) == 80 and 'hot dog' in get_classes('coco')
    assert len(get_classes('panoptic')) == 133
    assert len(get_classes('voc')) == 20 and len(get_classes('vid')) == 30
    with pytest.raises(ValueError, match='cityscapes'):
        get_classes('cityscape')
    with pytest.raises(TypeError, match='int'):
        get_classes(1)
