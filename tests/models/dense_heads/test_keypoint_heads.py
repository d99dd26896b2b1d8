"""Heads whose detections are peaks of heat maps, and the targets of CenterNet2."""

import copy
import math

import pytest
import torch
from fake_gpu import WaitingCopies
from head_table import BOXES, NUM_CLASSES, build_head, on_gpu, samples, totals
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import unpack_gt_instances
from mmdet.models.utils import gaussian_radius, gen_gaussian_target
from mmdet.registry import MODELS

pytestmark = pytest.mark.usefixtures('default_scope')

CORNERS = dict(num_classes=NUM_CLASSES, in_channels=8)
HEADS = {
    'CenterNetHead': dict(type='CenterNetHead', num_classes=NUM_CLASSES, in_channels=8, feat_channels=8),
    'CornerHead': dict(CORNERS, type='CornerHead'),
    'CornerHead no tags': dict(CORNERS, type='CornerHead', corner_emb_channels=0),
    'CentripetalHead': dict(CORNERS, type='CentripetalHead', corner_emb_channels=0),
}
PREDICTING = [name for name in HEADS if 'no tags' not in name]
TEST_CFG = dict(topk=9, corner_topk=12, local_maximum_kernel=3, distance_threshold=0.5, max_per_img=6)
TEST_CFG['nms'] = dict(type='soft_nms', iou_threshold=0.5, method='gaussian')
SIZE = (16, 16)  # cells of four pixels


def build(name, **changes):
    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(copy.deepcopy({**HEADS[name], 'test_cfg': TEST_CFG, **changes})))
    for key, value in head.named_parameters():
        if key.endswith('heat.1.1.conv.bias'):
            torch.nn.init.uniform_(value)  # classes differ
        if 'centripetal_shift.1.1.conv' in key:
            value.data = value / 100 + 0.5 * key.endswith('bias')  # centres at 1.6 cells from the corners
    return head


def maps(name, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, 8, *SIZE, generator=generator) for _ in range(1 if 'Center' in name else 2))


def loss_of(head, name, *kinds):
    return totals(head.loss(maps(name, len(kinds)), samples(*kinds)))


def research(head, calls, *names):
    """Make ``head`` an instance of a subclass whose methods count and call super."""

    def counting(name):
        def method(self, *args, **kwargs):
            calls.append(name)
            return getattr(super(kind, self), name)(*args, **kwargs)

        return method

    kind = type('Research', (type(head),), {name: counting(name) for name in names})
    head.__class__ = kind
    return head


@pytest.mark.parametrize('kinds', [('many', 'one'), ('many', 'empty'), ('empty', 'empty')], ids='-'.join)
@pytest.mark.parametrize('name', HEADS)
def test_losses_are_finite_and_reach_every_parameter(name, kinds):
    head = build(name)
    head.init_weights()
    losses = loss_of(head, name, *kinds)
    assert all(value.isfinite() for value in losses.values()), losses
    sum(losses.values()).backward()
    assert not [key for key, value in head.named_parameters() if value.grad is None]
    assert all(value.grad.isfinite().all() for value in head.parameters())
    found = {key for key, value in losses.items() if value > 0}
    assert found == (set(losses) if kinds[0] == 'many' else found & {'det_loss', 'loss_center_heatmap'})


@pytest.mark.parametrize('name', HEADS)
def test_order_of_images_and_objects_does_not_matter(name):
    head = build(name).eval()
    first = totals(head.loss(maps(name, 2), samples('many', 'one')))
    turned = samples('one', 'many')
    turned[1].gt_instances = turned[1].gt_instances[torch.tensor([2, 0, 3, 1])]
    second = totals(head.loss(tuple(level.flip(0) for level in maps(name, 2)), turned))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, msg=lambda text, k=key: f'{k}: {text}')


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('name', HEADS)
def test_the_loss_never_looks_at_the_data(name):
    with FakeTensorMode():
        sum(loss_of(build(name), name, 'many', 'empty').values()).backward()
        head = build(name)
        (feats,), data_samples = on_gpu(head, [maps(name, 2)], samples('many', 'empty'))
        gt_instances, ignored, metas = unpack_gt_instances(data_samples)
        outs = head(feats)
        with WaitingCopies() as copies:
            losses = totals(head.loss_by_feat(*outs, gt_instances, metas, ignored))
    assert all(value.device.type == 'cuda' for value in losses.values())
    assert not copies.found


@pytest.mark.gpu
@pytest.mark.parametrize('name', HEADS)
def test_a_gpu_gives_the_losses_of_the_cpu_without_waiting(name):
    expected = loss_of(build(name), name, 'many', 'empty')
    head = build(name).cuda()
    gt_instances, ignored, metas = unpack_gt_instances([sample.cuda() for sample in samples('many', 'empty')])
    outs = head([level.cuda() for level in maps(name, 2)])
    torch.cuda.set_sync_debug_mode('error')
    try:
        losses = totals(head.loss_by_feat(*outs, gt_instances, metas, ignored))
        sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for key, value in expected.items():
        torch.testing.assert_close(losses[key].cpu(), value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', HEADS)
def test_one_graph(name, one_graph):
    head = build(name).eval()
    torch.testing.assert_close(one_graph(head, maps(name, 2)), head(maps(name, 2)))


@pytest.mark.parametrize('name', HEADS)
def test_half_precision_keeps_the_losses_finite(name):
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = loss_of(build(name), name, 'many', 'empty')
    assert all(value.isfinite() for value in losses.values()), losses


# --------------------------------------------------------------------------------------------------- targets

# Two objects of one class with one centre, two with one corner, one that ends at the border, a point.
CROWD = [[8.0, 8, 40, 40], [20, 12, 28, 37], [8, 8, 20, 16], [40, 50, 64, 64], [30, 30, 30, 30]]
CLASSES = [1, 1, 0, 3, 2]


def crowd():
    return [torch.tensor(CROWD), torch.zeros(0, 4)], [torch.tensor(CLASSES), torch.zeros(0, dtype=torch.long)]


def test_targets_of_centers_are_those_object_by_object():
    targets, count = build('CenterNetHead').get_targets(*crowd(), (2, NUM_CLASSES, *SIZE), (64, 64))
    expected = {key: torch.zeros(2, channels, *SIZE) for key, channels in zip(targets, (NUM_CLASSES, 2, 2, 2))}
    heat, size, offset, weight = expected.values()
    for (x1, y1, x2, y2), label in zip(CROWD, CLASSES):
        x, y, width, height = (x1 + x2) / 8, (y1 + y2) / 8, (x2 - x1) / 4, (y2 - y1) / 4
        gen_gaussian_target(heat[0, label], (int(x), int(y)), int(gaussian_radius((height, width), 0.3)))
        size[0, :, int(y), int(x)] = torch.tensor([width, height])
        offset[0, :, int(y), int(x)] = torch.tensor([x - int(x), y - int(y)])
        weight[0, :, int(y), int(x)] = 1
    for key, value in expected.items():
        torch.testing.assert_close(targets[key], value, msg=lambda text, k=key: f'{k}: {text}')
    assert count == 4 and weight.sum() == 8


def test_targets_of_corners_are_those_object_by_object():
    head = build('CentripetalHead')
    targets = head.get_targets(*crowd(), (2, NUM_CLASSES, *SIZE), (64, 64), True, True, True)
    expected = {
        f'{corner}_{kind}': torch.zeros(2, NUM_CLASSES if kind == 'heatmap' else 2, *SIZE)
        for corner in ('topleft', 'bottomright')
        for kind in ('heatmap', 'offset', 'guiding_shift', 'centripetal_shift')
    }
    match = []
    for box, label in zip(CROWD, CLASSES):
        corners = [(box[0] / 4, box[1] / 4), (box[2] / 4, box[3] / 4)]
        cells = [(min(int(x), 15), min(int(y), 15)) for x, y in corners]
        center = [(a + b) / 2 for a, b in zip(*corners)]
        sides = [math.ceil(b - a) for a, b in zip(*corners)]
        radius = int(gaussian_radius((sides[1], sides[0]), 0.3))
        for name, corner, (x, y), sign in zip(('topleft', 'bottomright'), corners, cells, (1, -1)):
            gen_gaussian_target(expected[f'{name}_heatmap'][0, label], (x, y), radius)
            shift = [sign * (c - a) for c, a in zip(center, corner)]
            for kind, values in (
                ('offset', [a - b for a, b in zip(corner, (x, y))]),
                ('guiding_shift', [sign * (a - b) for a, b in zip(center, (x, y))]),
                ('centripetal_shift', [math.log(max(value, 1e-6)) for value in shift]),
            ):
                expected[f'{name}_{kind}'][0, :, y, x] = torch.tensor(values)
        match.append([[y, x] for x, y in cells])
    assert list(targets.pop('corner_embedding')) == [match, []]
    assert set(targets) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(targets[key], value, msg=lambda text, k=key: f'{k}: {text}')


def test_targets_on_a_pyramid_are_those_point_by_point():
    """CenterNet2, Sec. 4.1: Gaussians of all objects on all levels; boxes in 3 x 3 cells on the level of their size."""
    head = build_head('CenterNetUpdateHead')
    boxes = [[4.0, 6, 30, 34], [6, 4, 30, 37], [20, 10, 60, 58], [1, 1, 13, 12]]
    labels = [1, 1, 3, 0]
    points = [level for level in head.prior_generator.grid_priors([(8, 8), (4, 4)], device='cpu')]
    gt = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    heat, distances = head.get_targets(points, [gt, empty])
    assert heat.shape == (160, NUM_CLASSES) and distances.shape == (160, 4)
    own = [slice(0, 64), slice(128, 144)]  # rows of the first image
    found_boxes = set()
    for level, stride, (low, high), rows in zip(points, (8, 16), head.regress_ranges, own):
        for (x, y), hot, found in zip(level.tolist(), heat[rows], distances[rows]):
            expected, best = [0.0] * NUM_CLASSES, (math.inf, None)
            for (x1, y1, x2, y2), label in zip(boxes, labels):
                center = (x1 + x2) / 2, (y1 + y2) / 2
                cell = [(int(c / stride) + 0.5) * stride for c in center]
                away = (x - center[0]) ** 2 + (y - center[1]) ** 2 if (x, y) != tuple(cell) else 0.0
                away /= max((0.2 / 1.8) ** 2 * 2 * (x2 - x1) * (y2 - y1), 16)
                value = math.exp(-away)
                expected[label] = max(expected[label], value if value >= 1e-4 else 0.0)
                sides = [x - x1, y - y1, x2 - x, y2 - y]
                near = abs(x - cell[0]) <= stride and abs(y - cell[1]) <= stride
                if min(sides) > 0 and near and low <= math.hypot(x2 - x1, y2 - y1) / 2 <= high and away < best[0]:
                    best = away, [side / stride for side in sides]
            torch.testing.assert_close(hot, torch.tensor(expected))
            assert (best[1] is None) == bool(found.max() < 0)
            if best[1] is not None:
                torch.testing.assert_close(found, torch.tensor(best[1]))
                found_boxes.add(stride)
    assert found_boxes == {8, 16}
    assert not heat[64:128].any() and (distances[144:] < 0).all()


def test_positives_beside_the_center_have_good_boxes():
    head = build_head('CenterNetUpdateHead', regress_ranges=((0, 100), (150, 1e8)))  # all belong to the first level
    gt = InstanceData(bboxes=torch.tensor([[10.0, 12, 38, 44]]), labels=torch.tensor([2]))
    points = head.prior_generator.grid_priors([(8, 8), (4, 4)], device='cpu')
    flat = torch.cat(points)
    distances = head.bbox_coder.encode(flat, gt.bboxes.expand(80, -1)) / torch.tensor([8.0] * 64 + [16.0] * 16)[:, None]
    wrong = torch.ones(80, 4)
    center = 3 * 8 + 3  # of the first level: (24, 28) lies in the cell at x 3, y 3
    rows, labels = head.add_cls_pos_inds(flat, wrong, torch.tensor([[8, 8], [4, 4]]), [gt])
    assert (rows.tolist(), labels.tolist()) == ([center], [2])  # whatever its box
    for good in (center + 1, center - 8, 64 + 4 + 1):
        wrong[good] = distances[good] * (1 + good / 10000)
    rows, _ = head.add_cls_pos_inds(flat, wrong, torch.tensor([[8, 8], [4, 4]]), [gt])
    assert sorted(rows.tolist()) == [center - 8, center, center + 1, 64 + 4 + 1]
    head.more_pos_topk = 3  # below the third
    rows, _ = head.add_cls_pos_inds(flat, wrong, torch.tensor([[8, 8], [4, 4]]), [gt])
    assert sorted(rows.tolist()) == [center - 8, center]
    assert head.add_cls_pos_inds(flat, wrong, torch.tensor([[8, 8], [4, 4]]), [gt[:0]]) == (None, None)


# ------------------------------------------------------------------------------------------------- detection


def planted(places, channels=2):
    """A map of zeros with values at ``{(x, y): [value of each channel]}``."""
    out = torch.zeros(1, channels, *SIZE)
    for (x, y), values in places.items():
        out[0, :, y, x] = torch.tensor(values)
    return out


def logits(places):
    out = torch.full((1, NUM_CLASSES, *SIZE), -20.0)
    for (x, y), (label, value) in places.items():
        out[0, label, y, x] = value
    return out


META = dict(img_shape=(64, 64), batch_input_shape=(64, 64), ori_shape=(64, 64))


def test_centers_become_boxes():
    head = build('CenterNetHead')
    heat = logits({(5, 4): (2, 3.0), (6, 4): (2, 2.0), (10, 10): (0, 1.0)}).sigmoid()  # the second is no peak
    size, offset = planted({(5, 4): [6.0, 4.0], (10, 10): [2.0, 2.0]}), planted({(5, 4): [0.5, 0.25]})
    meta = dict(META, scale_factor=(2.0, 1.0), border=[3.0, 60.0, 8.0, 60.0])
    (result,) = head.predict_by_feat([heat], [size], [offset], [meta])
    assert len(result) == 9 and (result.scores[2:] < 1e-6).all()
    assert result.labels[:2].tolist() == [2, 0]
    expected = torch.tensor([[(2.5 * 4 - 8) / 2, 2.25 * 4 - 3, (8.5 * 4 - 8) / 2, 6.25 * 4 - 3], [14, 33, 18, 41.0]])
    torch.testing.assert_close(result.bboxes[:2], expected)
    (plain,) = head.predict_by_feat([heat], [size], [offset], [dict(META)])  # a pipeline that only pads: no scale
    torch.testing.assert_close(plain.bboxes[0], torch.tensor([10.0, 9, 34, 25]))
    head.test_cfg.nms = dict(type='nms', iou_threshold=0.5)
    (kept,) = head.predict_by_feat([heat], [size], [offset], [meta], with_nms=True)
    assert len(kept) == 6 and kept.bboxes[:2].tolist() == expected.tolist()


def test_corners_with_one_tag_and_class_become_boxes():
    head = build('CornerHead')
    first, second = logits({(2, 3): (1, 3.0), (8, 8): (1, 1.0)}), logits({(6, 9): (1, 2.0), (14, 12): (1, 1.0)})
    tags = planted({(2, 3): [1.0], (8, 8): [5.0]}, 1), planted({(6, 9): [1.2], (14, 12): [5.4]}, 1)
    offsets = planted({(2, 3): [0.5, 0.0]}), planted({})
    meta = dict(META, scale_factor=(1.0, 1.0), border=[4.0, 60.0, 8.0, 60.0])

    def found(*maps, **cfg):
        head.test_cfg.update(cfg)
        (result,) = head.predict_by_feat(*([m] for m in maps), [meta], rescale=True)
        return [(box.tolist(), label) for box, label in zip(result.bboxes, result.labels.tolist())], result.scores

    maps = [first, second, *tags, *offsets]
    boxes, scores = found(*maps, corner_topk=2)
    assert boxes == [([2.0, 8.0, 16.0, 32.0], 1), ([24.0, 28.0, 48.0, 44.0], 1)]
    torch.testing.assert_close(scores[0], torch.tensor([3.0, 2.0]).sigmoid().mean())
    # The tags of (2, 3) and (14, 12) are far apart, which then is no matter; (8, 8) lies not left of (6, 9).
    assert len(found(*maps, distance_threshold=9.0)[0]) == 3
    other = logits({(6, 9): (2, 2.0), (14, 12): (1, 1.0)})
    assert [box for box, _ in found(first, other, *tags, *offsets, distance_threshold=0.5)[0]] == [boxes[1][0]]
    near = planted({(2, 3): [1.0], (8, 8): [5.0]}, 1), planted({(6, 9): [1.6], (14, 12): [5.4]}, 1)
    assert [box for box, _ in found(first, second, *near, *offsets)[0]] == [boxes[1][0]]


@pytest.mark.parametrize(
    'first, second, fits',
    [
        ((6.0, 6.0), (6.0, 6.0), True),  # both point to the centre (8, 8)
        ((6.5, 6.0), (6.0, 5.5), True),  # together still within half of the central region
        ((9.0, 6.0), (6.0, 6.0), False),  # out of the central region, 2.5 of 6 cells to either side
        ((6.0, 6.0), (6.0, 2.0), False),
        ((8.2, 8.2), (8.2, 8.2), False),  # both within it, but far from each other
    ],
)
def test_corners_that_point_to_one_center_become_boxes(first, second, fits):
    head = build('CentripetalHead')
    shifts = [planted({at: [math.log(v) for v in shift]}) for at, shift in (((2, 2), first), ((14, 14), second))]
    none = planted({})
    heats = logits({(2, 2): (3, 2.0)}), logits({(14, 14): (3, 2.0)})
    head.test_cfg.corner_topk = 1
    outs = ([m] for m in (*heats, none, none, none, none, *shifts))
    (result,) = head.predict_by_feat(*outs, [dict(META, scale_factor=(1.0, 1.0))])
    assert result.bboxes.tolist() == ([[8.0, 8.0, 56.0, 56.0]] if fits else [])


@pytest.mark.parametrize('name', PREDICTING)
def test_predictions_of_one_image(name):
    feats, data = maps(name, 2), samples('many', 'one')
    data[1].set_metainfo(dict(border=[2.0, 60.0, 4.0, 60.0], scale_factor=(0.5, 2.0)))
    head = build(name).eval()
    with torch.no_grad():
        batch = head.predict(feats, data, rescale=True)
        single = head.predict(tuple(level[1:] for level in feats), data[1:], rescale=True)[0]
    assert all(0 < len(result) <= 9 and (result.scores[:-1] >= result.scores[1:]).all() for result in batch)
    assert batch[1].labels.dtype == torch.long and batch[1].bboxes.shape == (len(batch[1]), 4)
    torch.testing.assert_close((batch[1].bboxes, batch[1].scores), (single.bboxes, single.scores))
    for method in ('_predict_by_feat_single', '_decode_heatmap', '_bboxes_nms'):
        calls = []
        own = research(build(name).eval(), calls, method)
        with torch.no_grad():
            options = dict(with_nms=True) if name == 'CenterNetHead' else {}
            metas = [sample.metainfo for sample in data]
            found = own.predict_by_feat(*own(feats), batch_img_metas=metas, rescale=True, **options)
            expected = head.predict_by_feat(*head(feats), batch_img_metas=metas, rescale=True, **options)
        assert set(calls) == {method}
        for result, want in zip(found, expected):
            torch.testing.assert_close((result.bboxes, result.scores), (want.bboxes, want.scores))
            assert result.labels.tolist() == want.labels.tolist()


@pytest.mark.parametrize('name', HEADS)
def test_joints_that_call_super_change_no_loss(name):
    calls = []
    names = ['forward', 'forward_single', 'loss_by_feat', 'get_targets']
    if name != 'CenterNetHead':
        names.append('loss_by_feat_single')
    found = loss_of(research(build(name), calls, *names), name, 'many', 'empty')
    assert set(calls) == set(names)
    torch.testing.assert_close(found, loss_of(build(name), name, 'many', 'empty'))


def test_tags_as_lists_of_cells():
    class Listed(torch.nn.Module):
        """A loss of research code, which reads lists."""

        def forward(self, pred, target, match):
            self.match = [[list(map(list, pair)) for pair in pairs] for pairs in match]
            return pred.sum() * 0, target.sum() * 0

    head = build('CornerHead')
    head.loss_embedding = Listed()
    loss_of(head, 'CornerHead', 'many', 'empty')
    cells = [[[int(y1) // 4, int(x1) // 4], [int(y2) // 4, int(x2) // 4]] for x1, y1, x2, y2 in BOXES['many'][0]]
    assert head.loss_embedding.match == [cells, []]


def test_wrong_settings_are_told():
    with pytest.raises(ValueError, match='guiding_shift_channels must be 2, for x and y, not 3'):
        build('CentripetalHead', guiding_shift_channels=3)
    with pytest.raises(ValueError, match='corner_emb_channels must be 0, not 1'):
        build('CentripetalHead', corner_emb_channels=1)
    with pytest.raises(ValueError, match='corner_emb_channels must be positive'):
        build('CornerHead no tags').predict(maps('CornerHead', 1), samples('one'))
    with pytest.raises(ValueError, match='2 levels, but 1 regress_ranges'):
        head = build_head('CenterNetUpdateHead', regress_ranges=((0, 1e8),))
        head.loss((torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 4, 4)), samples('one'))
