"""Heads whose queries predict masks: MaskFormer's and Mask2Former's."""

import pytest
import torch
import torch.nn.functional as F
from fake_gpu import WaitingCopies, fake_weights
from mask_query_table import (
    IMAGE,
    LAYERS,
    MASK_HEADS,
    POINTS,
    QUERIES,
    STUFF,
    THINGS,
    build_mask_head,
    maps,
    mask_samples,
    stuff_of,
)
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from test_query_heads import research
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.models.core import panoptic_gt, set_matching, targets_of_matching
from mmdet.models.dense_heads import mask2former_head, maskformer_head
from mmdet.models.task_modules.assigners import HungarianAssigner
from mmdet.models.task_modules.samplers import MaskPseudoSampler
from mmdet.ops import point_sample

pytestmark = pytest.mark.usefixtures('default_scope')

NAMES = 'loss_cls', 'loss_mask', 'loss_dice'
FIRST = {'MaskFormerHead': LAYERS, 'Mask2FormerHead': LAYERS + 1}  # Mask2Former predicts before its layers, too


def layers_of(name):
    return FIRST[name.split()[0]]


@pytest.fixture
def same_points(monkeypatch):
    """Draws the same points, whoever asks."""
    points = torch.rand(1, POINTS, 2, generator=torch.Generator().manual_seed(5))
    picked = lambda masks, *options, **limits: points.expand(len(masks), -1, -1)
    monkeypatch.setattr(mask2former_head, 'pick_uncertain_points', picked)
    own = torch.rand
    drawn = lambda *size, **options: points.expand(*size) if size[1:] == (POINTS, 2) else own(*size, **options)
    monkeypatch.setattr(mask2former_head.torch, 'rand', drawn)
    return points


def loss_of(built, name, *kinds, **options):
    return built.loss(maps(len(kinds)), mask_samples(*kinds, stuff=stuff_of(name), **options))


@pytest.mark.parametrize('kinds', [('many', 'one'), ('many', 'empty'), ('empty', 'empty')], ids='-'.join)
@pytest.mark.parametrize('name', MASK_HEADS)
def test_losses_are_finite_and_reach_every_parameter(name, kinds):
    built = build_mask_head(name)
    losses = loss_of(built, name, *kinds)
    prefixes = ['', *(f'd{n}.' for n in range(layers_of(name) - 1))]
    assert list(losses) == [f'{prefix}{loss}' for prefix in prefixes for loss in NAMES]
    assert all(value.isfinite() and value.dim() == 0 for value in losses.values())
    sum(losses.values()).backward()
    for key, value in built.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), key
    positive = stuff_of(name) > 0 or any(kind != 'empty' for kind in kinds)
    assert all((value > 0) == positive for key, value in losses.items() if not key.endswith('cls'))


def truth_of(sample, stuff):
    """Labels and masks of an image, one by one."""
    labels = sample.gt_instances.labels.tolist()
    masks = list(torch.from_numpy(sample.gt_instances.masks.masks))
    for label in range(THINGS, THINGS + stuff):
        inside = sample.gt_sem_seg.sem_seg[0] == label
        if inside.any():
            labels.append(label)
            masks.append(inside)
    return labels, [mask.float() for mask in masks]


def entropy(logit, target):
    return F.binary_cross_entropy_with_logits(logit, target)


def focal(logit, target):
    """Equation 5 of arXiv:1708.02002, the mean over pixels."""
    p = logit.sigmoid()
    p_t = torch.where(target > 0, p, 1 - p)
    return (-torch.where(target > 0, 0.25, 0.75) * (1 - p_t) ** 2 * p_t.log()).mean()


def dice(logit, target):
    p = logit.sigmoid()
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def cost_of(logit, target):
    """As of a positive where there is the object, less nothing elsewhere: the focal loss of Deformable DETR's cost."""
    return focal(logit, target)


def by_loop(name, scores, masks, truth, points):
    """The losses of one layer, image by image and query by query."""
    points_only, weights = name.startswith('Mask2Former'), torch.ones(scores.shape[-1])
    weights[-1] = 0.1
    cls_sum, weight_sum, count, mask_sum, dice_sum = 0, 0, 0, 0, 0
    sampled = lambda mask: point_sample(mask[None, None], points)[0, 0]
    for score, mask, (labels, targets) in zip(scores, masks, truth):
        cost = torch.zeros(QUERIES, len(labels))
        for query in range(QUERIES):
            for g, (label, target) in enumerate(zip(labels, targets)):
                if points_only:
                    seen, known, factor, compare = sampled(mask[query]), sampled(target), 3.0, entropy
                else:
                    small = F.interpolate(target[None, None], mask.shape[-2:], mode='nearest')[0, 0]
                    seen, known, factor, compare = mask[query], small, 1.0, cost_of
                cost[query, g] = -2 * score[query].softmax(0)[label] + dice(seen, known)
                cost[query, g] += factor * compare(seen, known)
        rows, columns = linear_sum_assignment(cost.detach().numpy())
        wanted = torch.full((QUERIES,), len(weights) - 1)
        for query, g in zip(rows, columns):
            wanted[query] = labels[g]
            if points_only:
                seen, known, compare = sampled(mask[query]), sampled(targets[g]), entropy
            else:
                seen = F.interpolate(mask[query][None, None], IMAGE, mode='bilinear', align_corners=False)[0, 0]
                known, compare = targets[g], focal
            mask_sum = mask_sum + compare(seen, known)
            dice_sum = dice_sum + dice(seen, known)
        cls_sum = cls_sum - (score.log_softmax(1)[range(QUERIES), wanted] * weights[wanted]).sum()
        weight_sum = weight_sum + weights[wanted].sum()
        count += max(len(rows), 1)
    factor = 5.0 if points_only else 20.0
    return 2 * cls_sum / weight_sum, factor * mask_sum / count, dice_sum / count


@pytest.mark.parametrize('budget', [maskformer_head.PIXEL_BUDGET, 1], ids=['at once', 'in parts'])
@pytest.mark.parametrize('name', MASK_HEADS)
def test_losses_are_those_of_a_loop_over_layers_and_images(name, budget, same_points, monkeypatch):
    monkeypatch.setattr(maskformer_head, 'PIXEL_BUDGET', budget)
    monkeypatch.setattr(mask2former_head, 'POINT_BUDGET', budget)
    built, stuff = build_mask_head(name), stuff_of(name)
    data_samples = mask_samples('many', 'empty', 'one', stuff=stuff)
    losses = built.loss(maps(3), data_samples)
    scores, masks = built(maps(3), data_samples)
    truth = [truth_of(sample, stuff) for sample in data_samples]
    prefixes = [*(f'd{n}.' for n in range(len(scores) - 1)), '']
    for prefix, score, mask in zip(prefixes, scores, masks):
        for loss, value in zip(NAMES, by_loop(name, score, mask, truth, same_points)):
            torch.testing.assert_close(losses[prefix + loss], value, rtol=1e-4, atol=1e-5)
    sum(losses.values()).backward()  # through the parts that are computed again
    assert built.cls_embed.weight.grad.isfinite().all()


def test_more_objects_than_queries(same_points):
    built = build_mask_head('Mask2FormerHead', num_queries=1)
    losses = loss_of(built, 'Mask2FormerHead', 'many', 'one')
    targets = built._get_targets_single(
        torch.zeros(1, THINGS + 1), torch.zeros(1, 16, 16), built.preprocess_gt(
            [mask_samples('many')[0].gt_instances], [None])[0], {}
    )  # fmt: skip
    assert len(targets[2]) == 1 and all(value.isfinite() for value in losses.values())


def test_places_of_targets():
    """Two images of 2 and 1 objects, 3 queries, one layer; the first object of the first image has no query."""
    gt_inds = torch.tensor([[[0, 2, 0], [0, 0, 1]]])
    images = [
        InstanceData(labels=torch.tensor([4, 5]), masks=torch.zeros(2, 1, 1)),
        InstanceData(labels=torch.tensor([6]), masks=torch.zeros(1, 1, 1)),
    ]
    targets = targets_of_matching(gt_inds, images, 9)
    assert targets.labels.tolist() == [[[9, 5, 9], [9, 9, 6]]]
    assert targets.weights.tolist() == [[0, 1, 1]] and targets.queries[0, 1:].tolist() == [1, 5]
    assert targets.avg_factor.tolist() == [2]


def test_ground_truth_of_things_and_stuff():
    built = build_mask_head('MaskFormerHead of stuff')
    many, none = mask_samples('many', 'empty', stuff=STUFF)
    none.gt_sem_seg.sem_seg[:] = THINGS + 1
    none.gt_sem_seg.sem_seg[0, 0, 0] = 0  # a class of things makes no stuff
    instances = [many.gt_instances, none.gt_instances]
    found = built.preprocess_gt(instances, [many.gt_sem_seg, none.gt_sem_seg])
    things = many.gt_instances.labels.tolist()
    assert found[0].labels.tolist() == [*things, THINGS, THINGS + 1] and found[1].labels.tolist() == [THINGS + 1]
    assert found[0].masks.flatten(1).sum(1).tolist()[-2:] == [32 * 64, 32 * 16]
    assert found[1].masks.sum() == 64 * 64 - 1 and found[1].masks[0, 0, 0] == 0
    alone = built.preprocess_gt(instances, [None, None])
    assert alone[0].labels.tolist() == things and alone[1].masks.shape == (0, *IMAGE)
    of_maps_alone = built.preprocess_gt([InstanceData()], [many.gt_sem_seg])
    assert of_maps_alone[0].labels.tolist() == [THINGS, THINGS + 1]


def solved_without_looking(monkeypatch):
    """What happens on the host, replaced by what knows the shapes alone."""
    empty = lambda host, shapes, counts, copies: torch.zeros(sum(n * q for n, q, _ in shapes), dtype=torch.int32)
    monkeypatch.setattr(set_matching, 'solve_on_host', empty)
    found = lambda flags: [[0, 1] for _ in range(len(flags))]
    monkeypatch.setattr(panoptic_gt, 'places_on_host', found)


@pytest.mark.parametrize('name', MASK_HEADS)
def test_the_loss_looks_at_the_data_in_the_matching_alone(name, monkeypatch):
    solved_without_looking(monkeypatch)
    built = build_mask_head(name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        losses = loss_of(fake_weights(mode, built), name, 'many', 'empty')
        sum(losses.values()).backward()
    assert losses


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('name', MASK_HEADS)
def test_the_host_waits_once_for_a_gpu(name, monkeypatch):
    solved_without_looking(monkeypatch)
    built = build_mask_head(name)
    with FakeTensorMode() as mode:
        fake_weights(mode, built, 'cuda')
        given = [level.to('cuda') for level in maps(2)]
        data_samples = mask_samples('many', 'empty', stuff=stuff_of(name), packed=True)
        data_samples = [sample.to('cuda') for sample in data_samples]
        with WaitingCopies() as copies:
            losses = built.loss(given, data_samples)
    assert losses['loss_dice'].device.type == 'cuda'
    assert len(copies.found) == 1, copies.found


JOINTS = {
    'forward': lambda layers: 1,
    'preprocess_gt': lambda layers: 1,
    'loss_by_feat': lambda layers: 1,
    '_loss_by_feat_single': lambda layers: layers,
    'get_targets': lambda layers: layers,
    '_get_targets_single': lambda layers: 2 * layers,
    '_forward_head': lambda layers: layers,
}


@pytest.mark.parametrize('joint', JOINTS)
@pytest.mark.parametrize('name', ['MaskFormerHead', 'MaskFormerHead of stuff', 'Mask2FormerHead'])
def test_methods_that_call_super_change_nothing(name, joint, same_points):
    if joint == '_forward_head' and not name.startswith('Mask2Former'):
        pytest.skip('MaskFormer predicts all layers at once')
    built, calls = build_mask_head(name), []
    expected = loss_of(built, name, 'many', 'one')
    found = loss_of(research(built, calls, joint), name, 'many', 'one')
    assert len(calls) == JOINTS[joint](layers_of(name))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('part', ['assigner', 'sampler'])
def test_own_assigners_and_samplers_are_called(part, same_points):
    built, calls = build_mask_head('Mask2FormerHead'), []
    expected = loss_of(built, 'Mask2FormerHead', 'many', 'empty')
    joint = {'assigner': 'assign', 'sampler': 'sample'}[part]
    assert isinstance(getattr(built, part), {'assigner': HungarianAssigner, 'sampler': MaskPseudoSampler}[part])
    research(getattr(built, part), calls, joint)
    found = loss_of(built, 'Mask2FormerHead', 'many', 'empty')
    assert len(calls) == 2 * (LAYERS + 1)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


def test_targets_in_lists(same_points):
    built = build_mask_head('MaskFormerHead')
    many, one = (sample.gt_instances for sample in mask_samples('many', 'one'))
    truth = built.preprocess_gt([many, one], [None, None])
    outputs = torch.randn(2, QUERIES, THINGS + 1), torch.randn(2, QUERIES, 16, 16)
    targets = built.get_targets(*map(list, outputs), truth, [{}, {}], return_sampling_results=True)
    labels, label_weights, masks, mask_weights, avg_factor, sampled = targets
    assert avg_factor == len(many) + len(one) and [len(mask) for mask in masks] == [len(many), len(one)]
    for image, weight, label, result in zip(truth, mask_weights, labels, sampled):
        assert weight.sum() == len(image) and ((label < THINGS) == (weight > 0)).all()
        assert sorted(label[label < THINGS].tolist()) == sorted(image.labels.tolist())
        assert torch.equal(result.pos_gt_masks, image.masks[result.pos_assigned_gt_inds])
        assert result.masks.shape == (QUERIES, 16, 16) and result.info['num_pos'] == len(image)
    assert all((weight == 1).all() for weight in label_weights)


def test_most_points_are_where_the_mask_is_least_certain():
    built = build_mask_head('Mask2FormerHead')
    built.num_points = 400
    x = torch.arange(32.0).expand(1, 1, 32, -1) - 15.5  # zero in the middle
    points = built._uncertain_points(x)[0]
    assert points.shape == (400, 2)
    # The 300 least certain of 1200 lie in the middle quarter, and so does a quarter of the other 100.
    assert 0.75 < ((points[:, 0] - 0.5).abs() < 0.13).float().mean() < 0.88


@pytest.mark.parametrize('name', MASK_HEADS)
def test_predictions_have_the_size_of_the_batch(name):
    built = build_mask_head(name).eval()
    scores, masks = built.predict(maps(2), mask_samples('many', 'one'))
    assert scores.shape == (2, QUERIES, built.num_classes + 1) and masks.shape == (2, QUERIES, *IMAGE)
    assert scores.dtype == masks.dtype == torch.float32 and not masks.requires_grad


@pytest.mark.parametrize('name', ['MaskFormerHead', 'Mask2FormerHead'])
def test_one_graph(name, one_graph):
    built = build_mask_head(name).eval()
    with torch.no_grad():
        torch.testing.assert_close(one_graph(built, maps(1), None), built(maps(1), None))


def test_who_sees_nothing_sees_everything():
    """A query whose mask is nowhere positive attends to all cells: its output is finite and that of no mask."""
    built = build_mask_head('Mask2FormerHead').eval()
    own = built._forward_head

    def nowhere(*args):
        scores, masks, outside = own(*args)
        return scores, masks, torch.ones_like(outside)

    everywhere = lambda *args: (*own(*args)[:2], torch.zeros_like(own(*args)[2]))
    outputs = []
    for replaced in (nowhere, everywhere):
        built._forward_head = replaced
        outputs.append(built(maps(1), mask_samples('one'))[0][-1])
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(
    'name, changes, word',
    [
        ('MaskFormerHead', dict(loss_cls=dict(type='CrossEntropyLoss', class_weight=[1.0])), 'class_weight'),
        ('Mask2FormerHead', dict(num_transformer_feat_level=2), 'num_transformer_feat_level=2'),
        ('MaskFormerHead', dict(feat_channels=4), 'feat_channels=4'),
    ],
)
def test_wrong_settings_are_told(name, changes, word):
    with pytest.raises(ValueError, match=word):
        build_mask_head(name, **changes)


def test_packed_masks_are_those_of_arrays():
    packed, whole = (mask_samples('many', packed=flag)[0].gt_instances.masks for flag in (True, False))
    expected = torch.from_numpy(whole.masks)
    assert torch.equal(panoptic_gt.whole_masks(packed, torch.device('cpu')), expected)
    rows, columns = (torch.arange(side) for side in IMAGE)  # as on a GPU
    assert torch.equal(panoptic_gt.GTMasks.of([packed], torch.device('cpu')).at(rows, columns), expected)
