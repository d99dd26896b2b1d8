"""The small functions that heads of MMDetection 3.x import, against small tables."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet import errors
from mmdet.models import utils
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks


def test_scores_above_a_threshold_best_first():
    scores = torch.tensor([[0.1, 0.6], [0.8, 0.3], [0.2, 0.7]])
    rows = torch.tensor([[10], [11], [12]])
    for results, expected in (
        (dict(rows=rows), dict(rows=[[11], [12]])),
        ([rows], [[[11], [12]]]),
        (rows, [[11], [12]]),
    ):
        values, labels, keep, picked = utils.filter_scores_and_topk(scores, 0.5, 2, results)
        assert torch.allclose(values, torch.tensor([0.8, 0.7]))
        assert (labels.tolist(), keep.tolist()) == ([0, 1], [1, 2])
        if isinstance(results, dict):
            assert picked['rows'].tolist() == expected['rows']
        else:
            assert (picked[0] if isinstance(results, list) else picked).tolist() == [[11], [12]]
    values, labels, keep, picked = utils.filter_scores_and_topk(scores, 0.9, 10)
    assert len(values) == len(labels) == len(keep) == 0 and picked is None
    with pytest.raises(NotImplementedError, match='str'):
        utils.filter_scores_and_topk(scores, 0.5, 2, 'rows')


def sample(boxes, scores) -> DetDataSample:
    instances = InstanceData(bboxes=boxes, scores=torch.tensor(scores), labels=torch.zeros(len(scores)))
    return DetDataSample(gt_instances=instances)


def test_filtered_pseudo_labels():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 9, 2], [0, 0, 9, 9]])
    empty = sample(boxes[:0], [])
    for kind in (lambda b: b, HorizontalBoxes):
        samples = [sample(kind(boxes), [0.9, 0.8, 0.2]), empty]
        assert utils.filter_gt_instances(samples, score_thr=0.5) is samples
        assert len(samples[0].gt_instances) == 2 and not len(samples[1].gt_instances)
        utils.filter_gt_instances(samples, wh_thr=(3, 3))
        assert len(samples[0].gt_instances) == 1
        assert samples[0].gt_instances.scores.tolist() == pytest.approx([0.9])


def test_box_containers_become_tensors():
    boxes = torch.tensor([[0.0, 0, 4, 4]])
    one = DetDataSample(
        gt_instances=InstanceData(bboxes=HorizontalBoxes(boxes)),
        ignored_instances=InstanceData(labels=torch.zeros(1)),
        pred_instances=InstanceData(bboxes=boxes),
    )
    utils.samplelist_boxtype2tensor([one])
    assert type(one.gt_instances.bboxes) is torch.Tensor and torch.equal(one.gt_instances.bboxes, boxes)


def test_losses_are_renamed_and_weighed():
    losses = dict(loss_cls=[torch.tensor(1.0), torch.tensor(2.0)], loss_bbox=torch.tensor(3.0), acc=torch.tensor(50.0))
    weighed = utils.reweight_loss_dict(dict(losses), 2.0)
    assert [float(v) for v in weighed['loss_cls']] == [2, 4]
    assert (float(weighed['loss_bbox']), float(weighed['acc'])) == (6, 50)
    assert set(utils.rename_loss_dict('sup_', losses)) == {'sup_loss_cls', 'sup_loss_bbox', 'sup_acc'}


def test_geometric_mean_of_sigmoids():
    x, y = (torch.randn(5, dtype=torch.double, requires_grad=True) for _ in range(2))
    mean = utils.sigmoid_geometric_mean(x, y)
    assert torch.allclose(mean, (x.sigmoid() * y.sigmoid()).sqrt())
    assert torch.autograd.gradcheck(utils.sigmoid_geometric_mean, (x, y))
    low = torch.full((1,), -200.0, requires_grad=True)
    utils.sigmoid_geometric_mean(low, low).sum().backward()
    assert low.grad.isfinite().all()


def test_interpolation_to_the_size_of_another_map():
    source = torch.rand(2, 3, 4, 4)
    assert utils.interpolate_as(source, torch.rand(2, 1, 8, 6)).shape == (2, 3, 8, 6)
    assert utils.interpolate_as(source[:, 0], torch.rand(2, 8, 6)).shape == (2, 8, 6)
    assert utils.interpolate_as(source, torch.rand(4, 4)) is source
    nearest = utils.interpolate_as(source, torch.rand(8, 8), mode='nearest', align_corners=None)
    assert torch.equal(nearest[:, :, ::2, ::2], source)


def test_aligned_bilinear_keeps_the_cells_in_place():
    tensor = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    assert utils.aligned_bilinear(tensor, 1) is tensor
    expected = [[0, 0, 2, 4], [0, 0, 2, 4], [4, 4, 6, 8], [8, 8, 10, 12]]
    assert utils.aligned_bilinear(tensor, 2)[0, 0].tolist() == expected
    for wrong in ((tensor[0], 2), (tensor, 0)):
        with pytest.raises(errors.UserError):
            utils.aligned_bilinear(*wrong)


@pytest.mark.parametrize('dilation', [1, 2])
def test_neighbours_without_the_cell(dilation):
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    around = utils.unfold_wo_center(x, 3, dilation)
    assert around.shape == (1, 1, 8, 5, 5)
    steps = [(dy * dilation, dx * dilation) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    assert around[0, 0, :, 2, 2].tolist() == [x[0, 0, 2 + dy, 2 + dx].item() for dy, dx in steps]
    assert around[0, 0, 0, 0, 0] == 0
    with pytest.raises(errors.UserError, match='odd'):
        utils.unfold_wo_center(x, 2, 1)


def test_relative_coordinates():
    locations = torch.tensor([[4, 4], [12, 4]])
    maps = utils.relative_coordinate_maps(locations, torch.tensor([[12.0, 8.0]]), torch.tensor([8.0]), 2, (1, 2))
    assert maps.tolist() == [[[[0.5, 0.0]], [[0.25, 0.25]]]]


def test_generated_coordinates():
    coordinates = utils.generate_coordinate((2, 7, 2, 3), 'cpu')
    assert coordinates.shape == (2, 2, 2, 3)
    assert coordinates[1].tolist() == [[[-1, 0, 1], [-1, 0, 1]], [[-1, -1, -1], [1, 1, 1]]]


def test_center_of_mass():
    mask = torch.zeros(4, 5)
    mask[1, 2:4] = 1
    assert [float(v) for v in utils.center_of_mass(mask)] == [1, 2.5]
    assert [float(v) for v in utils.center_of_mass(mask * 0)] == [0, 0]
    assert [float(v) for v in utils.center_of_mass(mask.bool())] == [1, 2.5]


@pytest.mark.parametrize(
    'direction, expected',
    [('horizontal', [[1, 0], [3, 2]]), ('vertical', [[2, 3], [0, 1]]), ('diagonal', [[3, 2], [1, 0]])],
)
def test_flipped_tensors(direction, expected):
    tensor = torch.arange(4).reshape(1, 1, 2, 2)
    assert utils.flip_tensor(tensor, direction)[0, 0].tolist() == expected


def test_flip_refuses():
    with pytest.raises(AssertionError, match='3 dimensions'):
        utils.flip_tensor(torch.zeros(1, 1, 4), 'horizontal')
    with pytest.raises(AssertionError, match='sideways'):
        utils.flip_tensor(torch.zeros(1, 1, 4, 4), 'sideways')


def test_masks_as_arrays():
    masks = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    for given in (masks, torch.from_numpy(masks), BitmapMasks(masks, 2, 2)):
        assert np.array_equal(utils.mask2ndarray(given), masks)
    with pytest.raises(TypeError, match='list'):
        utils.mask2ndarray([masks])


def test_tensors_of_unequal_length():
    short, long = torch.tensor([1, 2]), torch.tensor([3, 4, 5])
    assert utils.align_tensor([short, long]).tolist() == [[1, 2, 0], [3, 4, 5]]
    assert utils.align_tensor([short[:, None], long[:, None]], 4).shape == (2, 4, 1)
    assert utils.padding_to(None) is None
    with pytest.raises(errors.UserError, match='3 rows'):
        utils.padding_to(long, 2)


def test_levels_and_images():
    levels = [torch.arange(16.0).reshape(2, 2, 2, 2), torch.arange(4.0).reshape(2, 2, 1, 1)]
    images = utils.levels_to_images(levels)
    assert images[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7], [0, 1]] and len(images) == 2
    per_level = utils.images_to_levels([torch.arange(3), torch.arange(3, 6)], [2, 1])
    assert [level.tolist() for level in per_level] == [[[0, 1], [3, 4]], [[2], [5]]]
    assert [level.tolist() for level in utils.select_single_mlvl(per_level, 1)] == [[3, 4], [5]]
    assert utils.unmap(torch.tensor([7, 8]), 4, torch.tensor([0, 1, 0, 1]), fill=-1).tolist() == [-1, 7, -1, 8]
    assert utils.multi_apply(lambda a, b, c: (a + b, a * c), [1, 2], [3, 4], c=10) == ([4, 6], [10, 20])


def test_sample_lists_and_empty_results():
    with_ignored = DetDataSample(
        gt_instances=InstanceData(), ignored_instances=InstanceData(), metainfo=dict(ori_shape=(4, 5))
    )
    without = DetDataSample(gt_instances=InstanceData(), metainfo=dict(ori_shape=(6, 7)))
    gts, ignored, metas = utils.unpack_gt_instances([with_ignored, without])
    assert len(gts) == 2 and ignored[0] is not None and ignored[1] is None
    results = utils.empty_instances(metas, 'cpu', 'bbox', num_classes=3, score_per_cls=True)
    assert results[0].bboxes.shape == (0, 4) and results[0].scores.shape == (0, 4)
    masks = utils.empty_instances(metas, 'cpu', 'mask', instance_results=results)
    assert masks[1].masks.shape == (0, 6, 7)


def test_divisible_channels():
    assert [utils.make_divisible(value, 8) for value in (3, 12, 18, 37)] == [8, 16, 24, 40]
    assert utils.make_divisible(10, 8, min_ratio=0.5) == 8


@pytest.mark.parametrize('new_rgb', [True, False])
def test_renormalized_pictures(new_rgb):
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 5, 3)).astype(np.float32)  # BGR
    old = dict(mean=[10, 20, 30], std=[2, 3, 4], to_rgb=True)
    new = dict(mean=[1, 2, 3], std=[5, 6, 7], to_rgb=new_rgb)

    def normalized(cfg):
        channels = pixels[..., ::-1] if cfg['to_rgb'] else pixels
        return ((channels - cfg['mean']) / cfg['std']).astype(np.float32)

    assert np.allclose(utils.imrenormalize(normalized(old), old, new), normalized(new), atol=1e-4)
    tensor = torch.from_numpy(normalized(old)).permute(2, 0, 1)[None]
    expected = torch.from_numpy(normalized(new)).permute(2, 0, 1)[None]
    assert torch.allclose(utils.imrenormalize(tensor, old, new), expected, atol=1e-4)


def test_stuff_becomes_instances():
    masks = BitmapMasks(np.array([[[1, 0], [0, 0]]], dtype=np.uint8), 2, 2)
    labels = torch.tensor([1])
    seg = torch.tensor([[[1, 3], [2, 255]]])  # two things, then two kinds of stuff
    found, instances = utils.preprocess_panoptic_gt(labels, masks, seg, num_things=2, num_stuff=2)
    assert found.tolist() == [1, 2, 3]
    assert instances.tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]
    found, instances = utils.preprocess_panoptic_gt(labels, masks, None, 2, 2)
    assert found is labels and instances.dtype == torch.long and len(instances) == 1


def test_uncertain_points():
    logits = torch.tensor([[[[3.0]], [[-1.0]]], [[[0.5]], [[2.0]]]])  # (2, 2, 1, 1)
    assert utils.get_uncertainty(logits, torch.tensor([1, 0])).flatten().tolist() == [-1, -0.5]
    assert utils.get_uncertainty(logits[:, :1], torch.tensor([1, 0])).flatten().tolist() == [-3, -0.5]
    masks = torch.linspace(-9, 9, 8).expand(2, 1, 8, 8)  # uncertain in the middle
    torch.manual_seed(0)
    points = utils.get_uncertain_point_coords_with_randomness(masks, torch.zeros(2, dtype=torch.long), 20, 5, 0.75)
    assert points.shape == (2, 20, 2) and points.min() >= 0 and points.max() <= 1
    assert ((points[:, :15, 0] - 0.5).abs() < 0.25).all()
    assert ((points[:, 15:, 0] - 0.5).abs() > 0.25).any()
    with pytest.raises(AssertionError, match='oversample_ratio'):
        utils.get_uncertain_point_coords_with_randomness(masks, None, 20, 0.5, 0.75)


BOXES = [[[0, 0, 10, 10], [50, 50, 60, 60]], [[0, 0, 10, 12]]]
SCORES, LABELS = [[0.9, 0.4], [0.6]], [[0, 1], [0]]


@pytest.mark.parametrize(
    'options, scores',
    [
        (dict(), [0.75, 0.2]),
        (dict(conf_type='max'), [0.9, 0.4]),
        (dict(conf_type='box_and_model_avg'), [0.75, 0.2]),
        (dict(conf_type='absent_model_aware_avg'), [0.75, 0.2]),
        (dict(weights=[2, 1]), [0.8, 0.8 / 3]),
    ],
)
def test_fused_boxes(options, scores):
    boxes, found, labels = utils.weighted_boxes_fusion(BOXES, SCORES, LABELS, **options)
    assert found.tolist() == pytest.approx(scores) and labels.tolist() == [0, 1]
    share = 0.6 / (0.6 + 0.9 * (2 if 'weights' in options else 1))
    assert boxes[0].tolist() == pytest.approx([0, 0, 10, 10 + 2 * share])
    assert boxes[1].tolist() == [50, 50, 60, 60]


def test_fused_boxes_of_other_classes_and_none():
    boxes, _, labels = utils.weighted_boxes_fusion(BOXES, SCORES, [[0, 1], [1]])
    assert len(boxes) == 3 and sorted(labels.tolist()) == [0, 1, 1]
    assert len(utils.weighted_boxes_fusion(BOXES, SCORES, LABELS, skip_box_thr=0.5)[0]) == 1
    assert utils.weighted_boxes_fusion([[], []], [[], []], [[], []])[0].shape == (0, 4)
    twice = [[[0, 0, 10, 10], [0, 0, 10, 10]]]
    assert utils.weighted_boxes_fusion(twice, [[0.8, 0.8]], [[0, 0]])[1].tolist() == pytest.approx([0.8])
    overflow = utils.weighted_boxes_fusion(twice, [[0.8, 0.8]], [[0, 0]], allows_overflow=True)
    assert overflow[1].tolist() == pytest.approx([1.6])
    with pytest.raises(AssertionError, match='median'):
        utils.weighted_boxes_fusion(BOXES, SCORES, LABELS, conf_type='median')
