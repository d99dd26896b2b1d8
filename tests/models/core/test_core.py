import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import (
    Assignment,
    BestMatch,
    DenseTargets,
    PaddedGT,
    PriorCache,
    Priors,
    best_of_candidates,
    count_per_image,
    detections,
    flatten_levels,
    flatten_outputs,
    gather_rows,
    image_detections,
    images_to_levels,
    labels_of,
    mean_count,
    multi_apply,
    pad_batch,
    per_level,
    select_topk,
    split_levels,
    unmap,
)
from mmdet.models.core import TestCfg as HeadTestCfg  # pytest would collect a name that begins with Test
from mmdet.models.core import gt as gt_module
from mmdet.models.dense_heads import joints


def instances(boxes, labels):
    return InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.long))


TWO = instances([[0.0, 0, 4, 4], [2, 2, 8, 8]], [3, 5])
NONE = instances([], [])


def test_levels_become_one_axis():
    first = torch.arange(2 * 6 * 1 * 2).reshape(2, 6, 1, 2)  # three anchors of two values at two locations
    second = torch.arange(2 * 6 * 1 * 1).reshape(2, 6, 1, 1) + 100
    flat = flatten_levels([first, second], 2)
    # level, y, x, anchor
    assert flat[0].tolist() == [[0, 2], [4, 6], [8, 10], [1, 3], [5, 7], [9, 11], [100, 101], [102, 103], [104, 105]]
    assert joints.as_level(flat).shape == (2, 2, 9, 1)
    assert torch.equal(flatten_levels([joints.as_level(flat)], 2), flat)
    assert torch.equal(flatten_outputs(([first], 2), ([second], 2))[1], flat[:, 6:])
    assert [len(part[0]) for part in split_levels(flat, [6, 3])] == [6, 3]
    index = torch.tensor([[4, 0], [1, 5]])
    rows = flat[:, :6].gather(1, index[..., None].expand(-1, -1, 2))
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(gather_rows(first.contiguous(memory_format=layout), index, 2), rows)


def test_values_of_each_level():
    like = torch.zeros(1)
    assert per_level([8, 16], [2, 1], like).tolist() == [8, 8, 16]
    assert per_level([(0, 1), (2, 3)], [1, 2], like).tolist() == [[0, 1], [2, 3], [2, 3]]


def test_priors_and_their_lists():
    priors = Priors(torch.rand(1, 3, 4), torch.ones(2, 3, dtype=torch.bool), [2, 1], strides=[8, 16])
    boxes, flags = joints.priors_as_lists(priors)
    assert [[len(level) for level in image] for image in boxes] == [[2, 1], [2, 1]]
    assert joints.priors_from_lists(boxes, flags) is priors
    copied = joints.priors_from_lists([list(image) for image in boxes], [list(image) for image in flags])
    assert torch.equal(copied.boxes, priors.expanded())
    assert copied.level_sizes == [2, 1]
    assert priors.stride.tolist() == [8, 8, 16]
    flat = joints.priors_from_lists(
        [torch.cat(list(image)) for image in boxes], [torch.cat(list(image)) for image in flags]
    )
    assert flat.level_sizes == [3]


def test_padded_ground_truth():
    gt = PaddedGT.from_instances([TWO, NONE])
    assert gt.boxes.shape == (2, 2, 4)
    assert gt.mask.tolist() == [[True, True], [False, False]]
    assert gt.counts == [2, 0]
    boxes, labels = gt.gather(torch.tensor([[2, 0, 1], [0, -1, 0]]))
    assert boxes[0, 0].tolist() == [2, 2, 8, 8]
    assert labels[0].tolist() == [5, 3, 3]
    empty = PaddedGT.from_instances([NONE, NONE])
    assert empty.boxes.shape == (2, 1, 4)
    assert not empty.mask.any()
    assert gt.ignored is None
    regions = PaddedGT.from_instances([TWO, NONE], [None, instances([[1.0, 1, 2, 2]], [0])])
    assert regions.ignored_mask.tolist() == [[False], [True]]
    assert PaddedGT.from_instances([TWO, NONE], [NONE, None]).ignored is None
    assert pad_batch([torch.ones(2, 3), torch.ones(0, 3)]).shape == (2, 2, 3)
    assert pad_batch([torch.ones(0, 3)]).shape == (1, 1, 3)


def test_parts_of_ground_truths(monkeypatch):
    gt = PaddedGT.from_instances([instances(torch.rand(5, 4).tolist(), [0] * 5), NONE])
    assert gt.chunks(10) == [slice(0, 4 * 1024**2 // 20)]
    monkeypatch.setattr(gt_module, 'CPU_MATRIX_BUDGET', 2 * 10 * 2 * 2)
    parts = gt.chunks(10, matrices=2)
    assert [len(range(5)[part]) for part in parts] == [2, 2, 1]
    assert gt.take(parts[2]).boxes.shape == (2, 1, 4)
    assert len(gt.chunks(10**9)) == 5  # never less than one at a time


def test_best_match_over_parts():
    match = BestMatch(torch.zeros(1, 3), start=-1.0)
    match.update(torch.tensor([[[0.5, 0.1, -2], [0.5, 0.3, -2]]]), slice(0, 2))
    match.update(torch.tensor([[[0.5, 0.4, -2]]]), slice(2, 3))
    assert match.gt_inds.tolist() == [[1, 3, 1]]
    assert match.score[0].tolist() == pytest.approx([0.5, 0.4, -1.0])


def test_candidates_of_several_objects():
    candidates = torch.tensor([[[0, 1, 2], [1, 2, 3]]])
    scores = torch.tensor([[[0.9, 0.5, 0.2], [0.5, 0.6, 0.9]]])
    positive = torch.tensor([[[True, True, True], [True, True, False]]])
    inds, best = best_of_candidates(candidates, scores, positive, 5)
    assert inds.tolist() == [[1, 1, 2, 0, 0]]  # of equals the first
    assert best[0, :3].tolist() == pytest.approx([0.9, 0.5, 0.6])
    assert best[0, 3:].tolist() == [-1, -1]


def test_targets():
    gt = PaddedGT.from_instances([TWO, NONE])
    assignment = Assignment(torch.tensor([[1, 0, -1, 2], [0, 0, 0, -1]]))
    targets = DenseTargets.build(assignment, gt, 9, pos_weight=0.5, level_sizes=[3, 1])
    assert targets.labels.tolist() == [[3, 9, 9, 5], [9, 9, 9, 9]]
    assert targets.label_weights.tolist() == [[0.5, 1, 0, 0.5], [1, 1, 1, 0]]
    assert targets.bbox_targets[0].tolist() == [[0, 0, 4, 4], [0] * 4, [0] * 4, [2, 2, 8, 8]]
    assert targets.bbox_weights[0, :, 0].tolist() == [1, 0, 0, 1]
    assert targets.avg_factor == 3  # at least one an image
    assert DenseTargets.build(assignment, gt, 9, count_negatives=True).avg_factor == 2 + 1 + 1 + 3
    assert labels_of(assignment, gt).tolist() == [[3, -1, -1, 5], [-1] * 4]

    lists = joints.TargetLists.of(targets)
    labels, *_, avg_factor = lists
    assert [level.tolist() for level in labels] == [[[3, 9, 9], [9, 9, 9]], [[5], [9]]]
    again = joints.targets_from_lists(tuple(lists), 9)
    assert torch.equal(again.labels, targets.labels)
    assert torch.equal(again.pos, targets.pos)
    assert again.avg_factor == avg_factor
    assert joints.targets_from_lists(lists, 9) is lists
    anchors = torch.rand(2, 4, 4)
    lists = joints.TargetLists.of(targets, anchors)
    assert torch.equal(joints.targets_from_lists(tuple(lists), 9).anchors, anchors)


def test_targets_are_finite_where_encoding_is_not():
    class LogSides:
        def encode(self, priors, boxes):
            return (boxes[..., 2:] - boxes[..., :2]).log()

    targets = DenseTargets.build(
        Assignment(torch.zeros(1, 2, dtype=torch.long)),
        PaddedGT.from_instances([NONE]),
        9,
        priors=torch.zeros(1, 2, 4),
        coder=LogSides(),
    )
    assert targets.bbox_targets.tolist() == [[[0, 0], [0, 0]]]


def test_point_targets():
    labels, boxes = torch.arange(6).view(2, 3), torch.rand(2, 3, 4)
    lists = joints.point_target_lists([labels, boxes], [2, 1])
    assert [level.tolist() for level in lists[0]] == [[0, 1, 3, 4], [2, 5]]
    head = SimpleNamespace(get_targets=lambda points, instances: lists)
    priors = Priors(torch.rand(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), [2, 1])
    again = joints.point_targets(head, priors, [TWO, NONE])
    assert torch.equal(again[0], labels)
    assert torch.equal(again[1], boxes)


def test_kept_grids():
    cache, made = PriorCache(size=2), []

    def make():
        made.append(1)
        return torch.zeros(1)

    assert cache.get('a', make) is cache.get('a', make)
    assert len(made) == 1
    with torch.inference_mode():
        assert cache.get('a', make).is_inference()
    assert not cache.get('a', make).is_inference()
    cache.get('b', make)
    cache.get('a', make)  # the oldest of three went
    assert len(made) == 4
    for copied in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        copied.get('b', make)
    assert len(made) == 6


def test_counts():
    mask = torch.tensor([[True, True], [False, False]])
    assert count_per_image(mask) == 3
    assert mean_count(mask.sum()) == 2
    assert mean_count(torch.tensor(0)) == 1


@pytest.mark.parametrize('nms_pre', [-1, 3, 4, 1000])
@pytest.mark.parametrize('monotonic', [True, False])
def test_best_pairs_of_a_level(nms_pre, monotonic):
    torch.manual_seed(0)
    logits = torch.randn(2, 2 * 3, 2, 2)  # two anchors, three classes
    scores, labels, index = select_topk(logits, 3, nms_pre, torch.sigmoid, monotonic)
    flat = flatten_levels([logits], 3).sigmoid()
    expected = flat.flatten(1).sort(1, descending=True).values[:, : nms_pre if 0 < nms_pre < 24 else 24]
    torch.testing.assert_close(scores, expected)
    for b in range(2):
        torch.testing.assert_close(flat[b, index[b], labels[b]], scores[b])


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('channels, monotonic', [(1, True), (1, False), (3, False)])
@pytest.mark.parametrize('nms_pre', [5, 50, 1000])
def test_equal_pairs_of_a_level_come_in_the_order_of_their_places(channels, monotonic, nms_pre, layout, device):
    torch.manual_seed(0)
    logits = (torch.randn(2, 2 * channels, 9, 7) * 2).round().contiguous(memory_format=layout)
    scores = flatten_levels([logits], channels).sigmoid().flatten(1)
    want, order = scores.sort(dim=1, descending=True, stable=True)
    found, labels, index = select_topk(logits.to(device), channels, nms_pre, torch.sigmoid, monotonic)
    assert (index * channels + labels).cpu().equal(order[:, :nms_pre])
    torch.testing.assert_close(found.cpu(), want[:, :nms_pre])


@pytest.mark.gpu
def test_pairs_of_a_level_are_the_same_on_a_gpu():
    torch.manual_seed(0)
    logits = (torch.randn(2, 6, 30, 40) * 2).round()
    on_cpu, on_gpu = (select_topk(x, 3, 200, torch.sigmoid) for x in (logits, logits.cuda()))
    assert all(a.equal(b.cpu()) for a, b in zip(on_cpu[1:], on_gpu[1:]))


def test_detections_of_candidates():
    fields = dict(
        scores=torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.05]]),
        labels=torch.tensor([[0, 0, 1, 0, 0]]),
        bboxes=torch.tensor([[[0.0, 0, 10, 10], [0, 1, 10, 10], [0, 0, 10, 10], [5, 5, 5, 9], [20, 20, 30, 30]]]),
    )
    metas = [dict(scale_factor=(2.0, 4.0))]
    run = lambda cfg, rescale=False, with_nms=True: detections(
        fields, HeadTestCfg.read(dict(score_thr=0.05, **cfg)), metas, rescale, with_nms, 'labels'
    )[0]
    kept = run(dict(nms=dict(type='nms', iou_threshold=0.5), min_bbox_size=0, max_per_img=5))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])
    assert kept.labels.tolist() == [0, 1]
    one = run(dict(nms=dict(type='nms', iou_threshold=0.95), max_per_img=1), rescale=True)
    assert one.scores.tolist() == pytest.approx([0.9])
    assert one.bboxes.tolist() == [[0, 0, 5, 2.5]]
    assert len(run({}, with_nms=False)) == 4  # the threshold itself is not enough
    with pytest.raises(ValueError, match="test_cfg has no 'nms'"):
        run({})
    metas[0].clear()
    with pytest.raises(ValueError, match="no 'scale_factor'"):
        run({}, rescale=True, with_nms=False)
    apart = dict(bboxes=fields['bboxes'][0], scores=fields['scores'][0], level_ids=torch.arange(5))
    cfg = HeadTestCfg.read(dict(nms=dict(type='nms', iou_threshold=0.5)))
    assert len(image_detections(dict(apart), cfg, None, groups='level_ids')) == 5
    apart.pop('level_ids')
    assert len(image_detections(apart, cfg, None, groups='level_ids')) == 3
    assert HeadTestCfg.read(None) == HeadTestCfg.read(dict(nms_pre=None)) == HeadTestCfg()


def test_names_that_research_code_imports():
    assert multi_apply(lambda a, b, c=0: (a + b, c), [1, 2], [3, 4], c=7) == ([4, 6], [7, 7])
    back = unmap(torch.tensor([5, 6]), 4, torch.tensor([True, False, False, True]), fill=-1)
    assert back.tolist() == [5, -1, -1, 6]
    by_level = images_to_levels([torch.arange(3), torch.arange(3) + 10], [2, 1])
    assert [level.tolist() for level in by_level] == [[[0, 1], [10, 11]], [[2], [12]]]
