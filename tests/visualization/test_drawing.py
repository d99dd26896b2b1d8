import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from mmdet.structures import DetDataSample
from mmdet.structures.mask import INSTANCE_OFFSET, BitmapMasks, PolygonMasks
from mmdet.visualization import DetLocalVisualizer, draw_sheet, get_palette, jitter_color, palette_val
from mmdet.visualization.canvas import mask_centers
from mmdet.visualization.palette import get_adaptive_scales

H, W = 60, 80
META = {'classes': ('cat', 'dog'), 'palette': [(255, 0, 0), (0, 255, 0)]}


@pytest.fixture
def gray():
    return np.full((H, W, 3), 128, dtype=np.uint8)


@pytest.fixture
def visualizer(request):
    made = DetLocalVisualizer.get_instance(request.node.name, text_color=(1, 1, 1))
    made.dataset_meta = META
    return made


def instances(**fields):
    boxes = torch.tensor([[10.0, 25, 40, 55], [50, 5, 78, 35]])
    return InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]), **fields)


def drawn_by(visualizer, image, tmp_path, **kwargs):
    """The file that is written, read back as RGB."""
    sample = DetDataSample(**kwargs.pop('fields'))
    visualizer.add_datasample('picture', image, sample, out_file=str(tmp_path / 'sub' / 'out.png'), **kwargs)
    return cv2.imread(str(tmp_path / 'sub' / 'out.png'))[..., ::-1].astype(int)


def is_red(pixels):
    return (pixels[..., 0] > pixels[..., 1] + 60).any()


def is_green(pixels):
    return (pixels[..., 1] > pixels[..., 0] + 60).any()


RED_BOX, GREEN_BOX = np.s_[50:60, 5:45], np.s_[30:40, 45:80]


def test_boxes_have_the_colour_of_their_class(visualizer, gray, tmp_path):
    drawn = drawn_by(visualizer, gray, tmp_path, fields={'gt_instances': instances()})
    assert drawn.shape == (H, W, 3)
    assert is_red(drawn[RED_BOX]) and not is_green(drawn[RED_BOX])
    assert is_green(drawn[GREEN_BOX]) and not is_red(drawn[GREEN_BOX])
    assert (drawn[26:36, 12:40].min(-1) < 60).any()  # the dark ground of the label
    assert (gray == 128).all()


@pytest.mark.parametrize(
    ('threshold', 'red', 'green'),
    [(0.3, True, True), (0.5, True, False), ({'cat': 0.95, 'dog': 0.1}, False, True), ([0.95, 0.1], False, True)],
)
def test_score_thresholds(visualizer, gray, tmp_path, threshold, red, green):
    fields = {'pred_instances': instances(scores=torch.tensor([0.9, 0.4]))}
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields, pred_score_thr=threshold)
    assert (is_red(drawn[RED_BOX]), is_green(drawn[GREEN_BOX])) == (red, green)


def test_truth_and_predictions_side_by_side(visualizer, gray, tmp_path):
    fields = {'gt_instances': instances()[:1], 'pred_instances': instances(scores=torch.ones(2))[1:]}
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert drawn.shape == (H, 2 * W, 3)
    assert is_red(drawn[:, :W]) and is_green(drawn[:, W:]) and not is_red(drawn[:, W:])
    for switch, width in (
        ({'draw_gt': False}, W),
        ({'draw_pred': False}, W),
        ({'draw_gt': False, 'draw_pred': False}, W),
    ):
        assert drawn_by(visualizer, gray, tmp_path, fields=fields, **switch).shape[1] == width


@pytest.mark.parametrize('kind', ['bitmap', 'polygon', 'tensor', 'array'])
def test_masks(visualizer, gray, tmp_path, kind):
    polygons = PolygonMasks([[np.array([10.0, 25, 40, 25, 10, 55])], [np.array([50.0, 5, 78, 5, 78, 35])]], H, W)
    bitmaps = polygons.to_ndarray()
    masks = {
        'bitmap': BitmapMasks(bitmaps, H, W),
        'polygon': polygons,
        'tensor': torch.as_tensor(bitmaps).bool(),
        'array': bitmaps,
    }[kind]
    fields = {'gt_instances': instances(masks=masks)}
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert is_red(drawn[40:46, 12:16])  # inside the triangle
    assert (abs(drawn[46:50, 30:36] - 128) < 3).all()  # inside the box but outside the triangle


def test_masks_without_boxes_are_labelled(visualizer, gray, tmp_path):
    masks = torch.zeros(1, H, W, dtype=torch.bool)
    masks[0, 10:50, 10:70] = True
    fields = {'pred_instances': InstanceData(masks=masks, bboxes=torch.zeros(1, 4), labels=torch.tensor([0]))}
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert (drawn[28:48, 35:65].max(-1) < 120).any()


@pytest.mark.parametrize('name', ['landmarks', 'keypoints'])
def test_landmarks(visualizer, gray, tmp_path, name):
    points = torch.tensor([[[30.0, 45], [20, 50]], [[60, 20], [65, 25]]])
    fields = {'pred_instances': instances(scores=torch.ones(2), **{name: points})}
    with_points = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert (with_points[45, 30] != 128).any() and (with_points[25, 65] != 128).any()
    flat = {'pred_instances': instances(scores=torch.ones(2), **{name: points.flatten(1)})}
    assert np.array_equal(drawn_by(visualizer, gray, tmp_path, fields=flat), with_points)


@pytest.mark.parametrize('count', [0, 1])
def test_nothing_and_strange_boxes(visualizer, gray, tmp_path, count):
    """No instances; a box outside the picture, one upside down, a label without a name: drawn or not, no failure."""
    strange = torch.tensor([[-50.0, -50, -10, -10], [60, 50, 20, 10], [-10, -10, 200, 200]])[: count * 3]
    fields = {
        'pred_instances': InstanceData(
            bboxes=strange, labels=torch.tensor([7, 0, 1])[: count * 3], scores=torch.ones(count * 3)
        )
    }
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert drawn.shape == (H, W, 3) and (drawn == 128).all() == (count == 0)


def test_unknown_names(gray, tmp_path):
    made = DetLocalVisualizer.get_instance('unknown-names')
    assert not (drawn_by(made, gray, tmp_path, fields={'gt_instances': instances()}) == 128).all()
    assert made._label_texts(instances(), np.array([0, 5]), ('cat',)) == ['cat', 'class 5']
    named = instances(label_names=['a', 'b'], scores=torch.tensor([0.5, 0.25]))
    assert made._label_texts(named, np.array([0, 1]), None) == ['a: 50.0', 'b: 25.0']


def test_segmentations(visualizer, gray, tmp_path):
    seg = torch.zeros(1, H, W, dtype=torch.long)
    seg[:, :, 40:] = 1
    seg[:, :10] = 255
    semantic = drawn_by(visualizer, gray, tmp_path, fields={'pred_sem_seg': PixelData(sem_seg=seg)})
    assert is_red(semantic[50:, :35]) and is_green(semantic[50:, 45:]) and (semantic[:8] == 128).all()
    panoptic = torch.full((1, H, W), 2)  # the label after the last is void
    panoptic[:, 30:, :40] = INSTANCE_OFFSET
    panoptic[:, 30:, 40:] = 1 + 2 * INSTANCE_OFFSET
    fields = {'pred_panoptic_seg': PixelData(sem_seg=panoptic)}
    drawn = drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert is_red(drawn[55:, :35]) and is_green(drawn[55:, 45:]) and (drawn[:25] == 128).all()
    visualizer.dataset_meta = {}
    with pytest.raises(ValueError, match='dataset_meta'):
        drawn_by(visualizer, gray, tmp_path, fields=fields)


def test_a_class_of_a_map_has_one_colour_and_objects_their_own(visualizer, gray, tmp_path):
    seg = torch.full((1, H, W), 1)
    seg[:, :20, :30] = 0
    semantic = drawn_by(visualizer, gray, tmp_path, fields={'pred_sem_seg': PixelData(sem_seg=seg)})
    ground = np.array(visualizer.dataset_meta['palette'][1]) * 0.6 + 128 * 0.4
    np.testing.assert_allclose(semantic[-3, -3], ground, atol=4)
    segments = torch.full((1, H, W), 1)
    segments[:, :20, :30], segments[:, :20, 50:] = INSTANCE_OFFSET, 2 * INSTANCE_OFFSET
    panoptic = drawn_by(visualizer, gray, tmp_path, fields={'pred_panoptic_seg': PixelData(sem_seg=segments)})
    np.testing.assert_allclose(panoptic[-3, -3], ground, atol=4)
    assert np.abs(panoptic[3, 3].astype(int) - panoptic[3, -3]).max() > 10  # two objects of one class


def test_names_of_a_map_below_its_objects(visualizer, gray, tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(visualizer, '_draw_labels', lambda names, *args: texts.extend(names))
    seg = torch.ones(1, H, W, dtype=torch.long)
    seg[:, 10:30, 10:30] = 0
    one = InstanceData(bboxes=torch.tensor([[10.0, 10, 30, 30]]), labels=torch.tensor([0]))
    fields = dict(gt_sem_seg=PixelData(sem_seg=seg), gt_instances=one)
    drawn_by(visualizer, gray, tmp_path, fields=fields)
    assert texts == [visualizer.dataset_meta['classes'][label] for label in (1, 0)]


def test_names_lie_on_their_segments():
    ring = np.ones((1, 41, 61), dtype=bool)
    ring[:, 8:38, 5:45] = False
    (x, y), area = (value[0] for value in mask_centers(ring))
    assert ring[0, int(y), int(x)] and x > 45 and area == ring.sum()


def test_without_sample_or_file(gray, tmp_path):
    backend = {'type': 'LocalVisBackend', 'save_dir': str(tmp_path)}
    made = DetLocalVisualizer.get_instance('to-a-backend', vis_backends=[backend])
    made.add_datasample('name', gray, None, step=3)
    assert (made.get_image() == 128).all()
    assert [path.name for path in tmp_path.rglob('*.png')] == ['name_3.png']


def test_unwritable_picture(visualizer, gray, tmp_path):
    with pytest.raises(OSError, match=r'out\.nothing'):
        visualizer.add_datasample('x', gray, None, out_file=str(tmp_path / 'out.nothing'))


@pytest.mark.parametrize(
    ('palette', 'expected'),
    [
        ((1, 2, 3), [(1, 2, 3)] * 3),
        ('green', [(0, 128, 0)] * 3),
        ([(1, 1, 1), [2, 2, 2], (3, 3, 3)], [(1, 1, 1), (2, 2, 2), (3, 3, 3)]),
    ],
)
def test_palettes(palette, expected):
    assert get_palette(palette, 3) == expected


def test_palettes_of_data_sets_and_at_random(default_scope):
    assert get_palette('coco', 80)[0] == (220, 20, 60)
    assert len(get_palette('voc', 20)) == 20
    state = np.random.get_state()[1].tolist()
    assert get_palette('random', 5) == get_palette(None, 5)
    assert np.random.get_state()[1].tolist() == state
    short = get_palette([(1, 1, 1)], 3)
    assert short[0] == (1, 1, 1) and len(short) == 3
    with pytest.raises(ValueError, match='cocoo'):
        get_palette('cocoo', 3)


def test_colours_and_scales():
    assert palette_val([(255, 0, 51)]) == [(1, 0, 0.2)]
    near = np.array(jitter_color((100, 250, 0)))
    assert near.shape == (3,) and abs(near - (100, 250, 0)).max() < 70 and near.min() >= 0 and near.max() <= 255
    assert get_adaptive_scales(np.array([0, 800, 15400, 30000, 1e6])).tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]


def test_sheet(tmp_path):
    images = [
        np.full(shape, value, np.uint8) for shape, value in (((30, 60, 3), 0), ((80, 20, 3), 100), ((5, 5, 3), 50))
    ]
    sheet = draw_sheet(
        images, tmp_path / 'new' / 'sheet.png', columns=2, cell_size=(60, 40), captions=['a', 'b', 'c'], gap=4
    )
    assert sheet.shape == (2 * (40 + 20 + 4) + 4, 2 * (60 + 4) + 4, 3)
    assert (sheet[4 + 5 : 4 + 35, 4:64] == 0).all()  # 30 x 60 fits as it is, in the middle of 40 rows
    assert (sheet[4:44, 68 + 25 : 68 + 35] == 100).all()  # 80 x 20 is halved
    assert np.array_equal(cv2.imread(str(tmp_path / 'new' / 'sheet.png'))[..., ::-1], sheet)
    with pytest.raises(ValueError, match='at least one'):
        draw_sheet([])
    plain, accents = (draw_sheet(images[:1], captions=[caption])[-26:] for caption in ('resume', 'r\u00e9sum\u00e9'))
    assert (accents < 128).any() and not np.array_equal(plain, accents)
    draw_sheet(images, tmp_path / '\u4eba' / '\u4eba.png')
    assert (tmp_path / '\u4eba' / '\u4eba.png').stat().st_size > 100
    with pytest.raises(ValueError, match='1 captions for 3'):
        draw_sheet(images, captions=['a'])


def test_boxes_that_are_no_numbers_are_left_out(visualizer, gray, tmp_path):
    one = instances()
    bad = instances()
    bad.bboxes = torch.tensor([[10.0, 25, 40, 55], [50, float('nan'), 78, 35]], dtype=torch.bfloat16)
    shown = [drawn_by(visualizer, gray, tmp_path, fields=dict(gt_instances=each)) for each in (one[:1], bad, bad[1:])]
    assert (shown[2] == 128).all()
    assert (shown[0] == shown[1]).all()
