"""Denoising queries against a loop over images, groups and ground truths."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.models.core import PaddedGT, denoising_mask, known_matches, noisy_boxes, noisy_labels, queries_by_image
from mmdet.models.layers.transformer import CdnQueryGenerator
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

DIMS, QUERIES, CLASSES = 6, 5, 20
SIZE = (40, 80)


def generator(num_dn_queries=7, **changes):
    torch.manual_seed(0)
    return CdnQueryGenerator(CLASSES, DIMS, QUERIES, group_cfg=dict(num_dn_queries=num_dn_queries), **changes)


def batch(*counts):
    found = []
    for count in counts:
        corner = torch.rand(count, 2) * 20
        truth = InstanceData(bboxes=torch.cat([corner, corner + 10], 1), labels=torch.randint(CLASSES, (count,)))
        found.append(DetDataSample(metainfo=dict(img_shape=SIZE), gt_instances=truth))
    return found


@pytest.mark.parametrize('counts, groups', [((3, 0, 1), 2), ((1,), 7), ((9, 2), 1)])
def test_without_noise_they_are_the_ground_truths(counts, groups):
    made, samples = generator(label_noise_scale=0.0, box_noise_scale=0.0), batch(*counts)
    content, place, mask, meta = made(samples)
    most = max(counts)
    total = 2 * most * groups
    assert meta == dict(num_denoising_queries=total, num_denoising_groups=groups)
    assert content.shape == (len(counts), total, DIMS) and place.shape == (len(counts), total, 4)
    assert mask.shape == (total + QUERIES,) * 2
    size = torch.tensor([SIZE[1], SIZE[0]] * 2)
    for image, sample in enumerate(samples):
        truth = sample.gt_instances
        for query in range(total):
            number = query % most
            if number >= len(truth):
                assert (content[image, query] == 0).all() and (place[image, query] == 0).all()
                continue
            assert torch.equal(content[image, query], made.label_embedding.weight[truth.labels[number]])
            corners = bbox_cxcywh_to_xyxy(place[image, query].sigmoid())
            torch.testing.assert_close(corners, truth.bboxes[number] / size, rtol=1e-3, atol=1e-3)


def test_positives_move_half_as_far_as_negatives():
    torch.manual_seed(0)
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.5], [0.3, 0.5, 0.5, 0.7]])
    scale, groups = 0.8, 200
    moved = bbox_cxcywh_to_xyxy(noisy_boxes(boxes, groups, scale)).view(groups, 2, 2, 4)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    parts = (moved - boxes) / sides / scale * 2  # in the least distance of a negative
    near, far = parts[:, 0].abs(), parts[:, 1].abs()
    assert near.max() <= 1.001 and near.min() < 0.1 and near.max() > 0.9
    assert far.min() >= 0.999 and far.max() <= 2.001 and far.max() > 1.9
    assert 0.4 < (parts > 0).float().mean() < 0.6
    wide = bbox_cxcywh_to_xyxy(noisy_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), groups, 1.0))
    assert wide.min() >= -1e-6 and wide.max() <= 1 + 1e-6


def test_labels_are_drawn_anew_at_the_rate_that_is_told():
    torch.manual_seed(0)
    labels = torch.randint(CLASSES, (20000,))
    changed = (noisy_labels(labels, 0.4, CLASSES) != labels).float().mean()
    assert abs(changed - 0.4 * (1 - 1 / CLASSES)) < 0.02
    assert torch.equal(noisy_labels(labels, 0.0, CLASSES), labels)


def test_no_group_is_seen_from_outside():
    size, groups = 2, 3
    mask = denoising_mask(size, groups, QUERIES, 'cpu')
    denoising = 2 * size * groups
    for row in range(denoising + QUERIES):
        for column in range(denoising + QUERIES):
            group = row // (2 * size) if row < denoising else None
            hidden = column < denoising and column // (2 * size) != group
            assert mask[row, column] == hidden
    assert not denoising_mask(0, 1, QUERIES, 'cpu').any()


def test_matches_are_known():
    truth = [InstanceData(bboxes=torch.rand(n, 4), labels=torch.zeros(n, dtype=torch.long)) for n in (2, 0, 3)]
    found = known_matches(PaddedGT.from_instances(truth), num_queries=12, num_groups=2).gt_inds
    assert found.tolist() == [[1, 2, 0, 0, 0, 0] * 2, [0] * 12, [1, 2, 3, 0, 0, 0] * 2]
    alone = known_matches(PaddedGT.from_instances(truth[:1]), num_queries=12, num_groups=2)
    assert torch.equal(alone.gt_inds[0], found[0])  # of an image whose batch has another with more


def test_all_images_without_objects():
    made = generator()
    content, place, mask, meta = made(batch(0, 0))
    assert content.shape == (2, 0, DIMS) and place.shape == (2, 0, 4) and mask.shape == (QUERIES, QUERIES)
    assert meta == dict(num_denoising_queries=0, num_denoising_groups=1)
    content.sum().backward()
    assert (made.label_embedding.weight.grad == 0).all()


METHODS = [
    'get_num_groups',
    'generate_dn_label_query',
    'generate_dn_bbox_query',
    'collate_dn_queries',
    'generate_dn_mask',
]


@pytest.mark.parametrize('method', METHODS)
def test_methods_that_call_super_change_nothing(method):
    made, samples, calls = generator(), batch(3, 0, 1), []

    def own(self, *args, **kwargs):
        calls.append(method)
        return getattr(super(kind, self), method)(*args, **kwargs)

    kind = type('Own', (CdnQueryGenerator,), {method: own})
    torch.manual_seed(1)
    expected = made(samples)
    made.__class__ = kind
    torch.manual_seed(1)
    found = made(samples)
    assert len(calls) == 1 and found[3] == expected[3]
    assert all(torch.equal(a, b) for a, b in zip(found[:3], expected[:3]))


def test_a_fixed_number_of_groups():
    made = CdnQueryGenerator(CLASSES, DIMS, QUERIES, group_cfg=dict(dynamic=False, num_groups=3))
    assert made(batch(2, 1))[3] == dict(num_denoising_queries=12, num_denoising_groups=3)
    assert queries_by_image(torch.zeros(0, 4), [0, 0]).shape == (2, 0, 4)
