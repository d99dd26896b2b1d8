import copy

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.structures.bbox import (
    BaseBoxes,
    HorizontalBoxes,
    autocast_box_type,
    convert_box_type,
    get_box_type,
    register_box,
    register_box_converter,
)
from mmdet.structures.bbox import box_type as box_types
from mmdet.structures.mask import BitmapMasks, PolygonMasks


def boxes(*rows):
    return HorizontalBoxes(list(rows))


@pytest.mark.parametrize(
    ('data', 'shape', 'dtype'),
    [
        ([[1, 2, 3, 4]], (1, 4), torch.float32),
        ([], (0, 4), torch.float32),
        (np.zeros((2, 4)), (2, 4), torch.float64),
        (np.zeros((2, 4), dtype=np.int64), (2, 4), torch.float32),
        (torch.zeros(2, 3, 4, dtype=torch.float64), (2, 3, 4), torch.float64),
        (torch.zeros(2, 0, 4), (2, 0, 4), torch.float32),
        (np.zeros((0,)), (0, 4), torch.float64),
    ],
)
def test_construction(data, shape, dtype):
    made = HorizontalBoxes(data)
    assert tuple(made.shape) == shape and made.dtype == dtype


def test_construction_copies_unless_told():
    tensor, array = torch.zeros(1, 4), np.zeros((1, 4), np.float32)
    for source in (tensor, array):
        made = HorizontalBoxes(source)
        made.tensor += 1
        assert float(source.sum()) == 0
    assert HorizontalBoxes(tensor, clone=False).tensor is tensor


def test_construction_from_centres_and_errors():
    assert HorizontalBoxes([[10, 10, 4, 6]], in_mode='cxcywh').tensor.tolist() == [[8, 7, 12, 13]]
    with pytest.raises(ValueError, match="'xywh'"):
        HorizontalBoxes([[1, 2, 3, 4]], in_mode='xywh')
    with pytest.raises(ValueError, match=r'\(1, 5\)'):
        HorizontalBoxes([[1, 2, 3, 4, 5]])


def test_properties():
    made = boxes([0, 0, 4, 2], [1, 1, 2, 5])
    assert made.centers.tolist() == [[2, 1], [1.5, 3]]
    assert made.areas.tolist() == [8, 4]
    assert made.widths.tolist() == [4, 1] and made.heights.tolist() == [2, 4]
    assert made.cxcywh.tolist() == [[2, 1, 4, 2], [1.5, 3, 1, 4]]


@pytest.mark.parametrize(
    ('method', 'args', 'expected'),
    [
        ('flip_', ((20, 40),), [28, 4, 38, 10]),
        ('flip_', ((20, 40), 'vertical'), [2, 10, 12, 16]),
        ('flip_', ((20, 40), 'diagonal'), [28, 10, 38, 16]),
        ('translate_', ((5, -6),), [7, -2, 17, 4]),
        ('clip_', ((8, 10),), [2, 4, 10, 8]),
        ('rescale_', ((2, 0.5),), [4, 2, 24, 5]),
        ('resize_', ((2, 0.5),), [-3, 5.5, 17, 8.5]),
        # clockwise on the screen: the corner at the right moves down
        ('rotate_', ((2, 4), 90), [-4, 4, 2, 14]),
        ('project_', (np.array([[1.0, 0, 3], [0, 2, 0], [0, 0, 1]]),), [5, 8, 15, 20]),
        ('project_', (torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]]),), [2, 4, 12, 10]),
    ],
)
def test_geometry(method, args, expected):
    made = boxes([2, 4, 12, 10])
    getattr(made, method)(*args)
    torch.testing.assert_close(made.tensor, torch.tensor([expected], dtype=torch.float32), atol=1e-5, rtol=0)
    empty = boxes()
    getattr(empty, method)(*args)
    assert empty.shape == (0, 4)


def test_inside():
    made = boxes([-4, -4, -1, -1], [-4, -4, 1, 1], [0, 0, 10, 10], [0, 0, 9, 9], [11, 0, 12, 5])
    assert made.is_inside((10, 10)).tolist() == [False, True, True, True, False]
    assert made.is_inside((10, 10), all_inside=True).tolist() == [False, False, False, True, False]
    assert made.is_inside((10, 10), allowed_border=2).tolist() == [True, True, True, True, True]


def test_points_inside():
    made = boxes([0, 0, 4, 4], [2, 2, 6, 6])
    points = torch.tensor([[1.0, 1], [3, 3], [4, 4], [7, 7]])
    assert made.find_inside_points(points).tolist() == [[1, 0], [1, 1], [1, 1], [0, 0]]
    assert made.find_inside_points(points[:2], is_aligned=True).tolist() == [True, True]
    with pytest.raises(ValueError, match='4 points'):
        made.find_inside_points(points, is_aligned=True)


def test_overlaps():
    made = boxes([0, 0, 4, 4], [2, 0, 6, 4])
    torch.testing.assert_close(HorizontalBoxes.overlaps(made, made)[0], torch.tensor([1, 1 / 3]))
    assert HorizontalBoxes.overlaps(made, made, is_aligned=True).tolist() == [1, 1]


def test_from_masks_and_back():
    made = boxes([1, 2, 5, 6], [0, 0, 3, 8])
    masks = made.create_masks((8, 8))
    assert torch.equal(masks.get_bboxes().tensor, made.tensor)
    polygons = PolygonMasks([[np.array([1.0, 2, 5, 2, 5, 6])], []], 8, 8)
    assert polygons.get_bboxes('hbox').tensor.tolist() == [[1, 2, 5, 6], [0, 0, 0, 0]]
    assert BitmapMasks(np.zeros((1, 8, 8)), 8, 8).get_bboxes().tensor.tolist() == [[0, 0, 0, 0]]


def test_indexing():
    made = boxes(*torch.arange(16.0).view(4, 4).tolist())
    for index in (1, slice(1, 2), [1], np.array([1]), torch.tensor([1]), torch.tensor([False, True, False, False])):
        assert made[index].tensor.tolist() == [[4, 5, 6, 7]]
    assert made[None].shape == (1, 4, 4)
    with pytest.raises(ValueError, match='coordinates'):
        made[:, 2]
    with pytest.raises(ValueError, match='coordinates'):
        made[made.tensor > 0]
    made[0] = boxes([9, 9, 9, 9])
    made[torch.tensor([1, 2])] = boxes([0, 0, 0, 0], [0, 0, 0, 0])
    assert made.tensor[:3].sum(1).tolist() == [36, 0, 0]
    for value in ([1, 2, 3, 4], torch.zeros(1, 4)):  # a tensor does not say which box type its numbers are of
        with pytest.raises(TypeError, match=type(value).__name__):
            made[0] = value


def test_indices_with_ellipsis_and_none():
    made = HorizontalBoxes(torch.rand(2, 3, 5, 4))
    assert made[None, ...].shape == (1, 2, 3, 5, 4)
    assert made[0, ...].shape == made[0, None][0].shape == (3, 5, 4)
    assert made[...].shape == made.shape
    for index in ((..., None), (..., 0), (0, 0, 0, 0), (0, ..., slice(0, 2)), np.ones((2, 3, 5, 4), dtype=bool)):
        with pytest.raises(AssertionError):
            made[index]
        with pytest.raises(ValueError, match='coordinates'):
            made[index] = made


def test_shapes_like_a_tensor():
    made = HorizontalBoxes(torch.arange(24.0).view(2, 3, 4))
    assert made.transpose(0, 1).shape == (3, 2, 4)
    assert made.permute(1, 0, 2).shape == (3, 2, 4)
    assert made.flatten().shape == (6, 4)
    assert made.reshape(3, 2, 4).shape == made.view(3, 2, 4).shape == (3, 2, 4)
    assert made.unsqueeze(0).squeeze().shape == (2, 3, 4)
    assert made.unsqueeze(0).expand(5, -1, -1, -1).shape == made.unsqueeze(0).repeat(5, 1, 1, 1).shape
    assert [len(part) for part in made.split(1)] == [1, 1]
    assert [len(part) for part in made.chunk(2)] == [1, 1]
    assert [tuple(part.shape) for part in made.unbind()] == [(3, 4)] * 2
    assert made.fake_boxes((2, 4), 1).tensor.tolist() == [[1] * 4] * 2
    assert made.empty_boxes(dtype=torch.float16).dtype == torch.float16
    assert made.new_zeros(2).shape == (2,)
    assert made.numel() == 24 and made.dim() == 3 and made.size(1) == 3
    assert made.to(torch.float64).dtype == torch.float64
    for broken in (lambda: made.transpose(1, 2), lambda: made.unbind(-1), lambda: made.unsqueeze(-1)):
        with pytest.raises(ValueError, match='coordinates'):
            broken()


def test_cat_stack_copy():
    made = boxes([0, 0, 1, 1])
    assert HorizontalBoxes.cat([made, boxes(), made]).shape == (2, 4)
    assert HorizontalBoxes.stack([made, made], dim=1).shape == (1, 2, 4)
    copied = copy.deepcopy(made)
    copied.tensor += 1
    assert made.tensor.sum() == 2
    instances = InstanceData(bboxes=made, labels=torch.zeros(1))
    assert len(InstanceData.cat([instances, instances]).bboxes) == 2
    assert isinstance(instances[instances.labels > 0].bboxes, HorizontalBoxes)


@pytest.fixture
def point_boxes(monkeypatch):
    for name in ('box_types', '_box_type_to_name', 'box_converters'):
        monkeypatch.setattr(box_types, name, dict(getattr(box_types, name)))

    class PointBoxes(HorizontalBoxes):
        box_dim = 2

    return PointBoxes


def test_registering_types_and_converters(point_boxes):
    assert get_box_type('hbox') == get_box_type(HorizontalBoxes) == ('hbox', HorizontalBoxes)
    with pytest.raises(KeyError, match='hbox'):
        get_box_type('hbx')
    register_box('point', point_boxes)
    with pytest.raises(KeyError, match='already'):
        register_box('point', point_boxes)
    with pytest.raises(TypeError, match='BaseBoxes'):
        register_box('tensor')(torch.Tensor)
    with pytest.raises(KeyError, match='hbox2point'):
        convert_box_type(boxes([0, 0, 4, 2]), dst_type='point')
    register_box_converter('hbox', point_boxes, lambda x: (x[..., :2] + x[..., 2:]) / 2)
    converted = boxes([0, 0, 4, 2]).convert_to('point')
    assert isinstance(converted, point_boxes) and converted.tensor.tolist() == [[2, 1]]
    array = convert_box_type(np.array([[0.0, 0, 4, 2]]), src_type='hbox', dst_type='point')
    assert isinstance(array, np.ndarray) and array.tolist() == [[2, 1]]
    with pytest.raises(ValueError, match='src_type'):
        convert_box_type(torch.zeros(1, 4), dst_type='point')


def test_autocast():
    class Transform:
        @autocast_box_type()
        def transform(self, results):
            return results.get('gt_bboxes')

    made = Transform().transform({'gt_bboxes': np.zeros((1, 4), np.float32)})
    assert isinstance(made, HorizontalBoxes)
    assert Transform().transform({'gt_bboxes': made}) is made


def test_autocast_gives_arrays_back():
    class Shift:
        @autocast_box_type()
        def transform(self, results):
            for sample in (results, *results['mix_results']):
                sample['gt_bboxes'].translate_((1, 2))
            return dict(results, gt_bboxes=results['gt_bboxes'][:1])

    partner = boxes([0, 0, 1, 1])
    results = {'gt_bboxes': np.zeros((2, 4)), 'mix_results': [{'gt_bboxes': np.zeros((1, 4), np.float32)}]}
    results['mix_results'].append({'gt_bboxes': partner})
    output = Shift().transform(results)
    assert output['gt_bboxes'].tolist() == [[1, 2, 1, 2]] and isinstance(output['gt_bboxes'], np.ndarray)
    assert results['gt_bboxes'].tolist() == [[1, 2, 1, 2]] * 2 and results['gt_bboxes'].dtype == np.float64
    array, kept = (sample['gt_bboxes'] for sample in results['mix_results'])
    assert isinstance(array, np.ndarray) and isinstance(kept, HorizontalBoxes)


def test_autocast_refuses_other_containers():
    class Transform:
        @autocast_box_type()
        def transform(self, results):
            return results.get('gt_bboxes')

    assert Transform().transform({}) is None
    with pytest.raises(TypeError, match='list'):
        Transform().transform({'gt_bboxes': [[0, 0, 1, 1]]})


def test_base_is_abstract():
    with pytest.raises(TypeError):
        BaseBoxes(torch.zeros(1, 4))
