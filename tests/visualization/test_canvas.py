"""What is drawn by OpenCV and Pillow, and its meeting with what mmengine's methods draw by matplotlib."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.errors import UserFileError
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.canvas import area_of, draw_boxes, line_of_text, mask_centers, place_labels, tint_masks


def overlapping(corners, sizes):
    low = np.maximum(corners[:, None], corners[None])
    high = np.minimum((corners + sizes)[:, None], (corners + sizes)[None])
    return np.triu(np.maximum(high - low, 0).prod(-1), 1).sum()


def test_labels_do_not_cover_each_other():
    sizes = np.array([(60, 14)] * 8)
    places = np.array([(20, 20)] * 6 + [(25, 24), (200, 100)])
    corners = place_labels(places, sizes, (300, 200))
    assert overlapping(corners, sizes) == 0 and overlapping(places, sizes) > 0
    assert (corners[-1] == (200, 100)).all()
    assert (corners[-2] == (25, 24)).all()  # the surer of two has its place


def test_labels_stay_in_the_picture():
    sizes = np.array([(60, 14), (60, 14), (900, 14)])
    corners = place_labels(np.array([(290, 195), (-30, -5), (5, 5)]), sizes, (300, 200))
    assert (corners[:2] >= 0).all() and (corners[:2] + sizes[:2] <= (300, 200)).all()
    assert corners[2, 0] == 0  # one that is too long begins at the border


def test_boxes_are_blended():
    image = np.full((20, 30, 3), 100, np.uint8)
    draw_boxes(image, np.array([(5.0, 4, 24, 15), (-9, -9, 50, 50)]), [(200, 0, 0), (0, 0, 200)], 1, 0.5)
    assert image[4, 10].tolist() == [150, 50, 50] and image[9, 5].tolist() == [150, 50, 50]
    assert (image[5:15, 6:24] == 100).all() and (image[:3] == 100).all()


def test_masks_are_tinted():
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[0, 4:14, 5:25] = True
    image = np.full((20, 30, 3), 100, np.uint8)
    tint_masks(image, masks, [(200, 0, 0), (0, 200, 0)], 0.5)
    assert image[9, 15].tolist() == [150, 50, 50] and image[4, 15, 0] > 180 > 60 > image[4, 15, 1]
    assert (image[:3] == 100).all() and area_of(masks[1]) is None
    centers, areas = mask_centers(masks)
    assert centers.tolist() == [[14.5, 8.5], [0, 0]] and areas.tolist() == [200, 0]


def test_a_font_of_the_user(tmp_path):
    from pathlib import Path

    import matplotlib

    serif = str(Path(matplotlib.get_data_path()) / 'fonts/ttf/DejaVuSerif.ttf')
    plain, own = line_of_text('Ward', 20), line_of_text('Ward', 20, serif)
    assert plain.shape != own.shape and own.max() > 0.9
    both = DetLocalVisualizer(name='serif', font_file=serif)
    box = InstanceData(bboxes=torch.tensor([[5.0, 5, 100, 100]]), labels=torch.tensor([0]), label_names=['Ward'])
    gray = np.full((120, 120, 3), 128, np.uint8)
    sample = DetDataSample(gt_instances=box)
    assert (both.draw_datasample(gray, sample) != DetLocalVisualizer(name='sans').draw_datasample(gray, sample)).any()
    (tmp_path / 'no.ttf').write_bytes(b'no font')
    with pytest.raises(UserFileError, match='is not a font file'):
        line_of_text('x', 20, str(tmp_path / 'no.ttf'))


def test_all_scripts_of_one_line():
    assert line_of_text('cat', 20).shape[1] < line_of_text('cat кошка γάτα', 20).shape[1]
    assert line_of_text('', 20).shape[0] > 10 and line_of_text('', 20).max() == 0


def test_methods_of_mmengine_draw_on_what_was_drawn():
    visualizer = DetLocalVisualizer(name='both ways')
    visualizer.set_image(np.full((60, 80, 3), 128, np.uint8))
    visualizer.draw_bboxes(np.array([[10.0, 10, 40, 40]]), edge_colors=[(255, 0, 0)], alpha=1)
    visualizer.draw_lines(np.array([5, 75]), np.array([50, 50]), colors='lime', line_widths=2)
    visualizer.draw_bboxes(torch.tensor([50, 10, 70, 40]), edge_colors=[(0, 0, 255)], alpha=1)
    visualizer.draw_bboxes(np.array([[2.0, 2, 8, 8]]), edge_colors='y', face_colors='y')  # names: by matplotlib
    visualizer.draw_texts('text', np.array([45, 52]), colors='k')
    drawn = visualizer.get_image().astype(int)
    assert drawn[10, 25].argmax() == 0 and drawn[50, 20].argmax() == 1 and drawn[10, 60].argmax() == 2
    assert drawn[5, 5, 2] < 100 < drawn[5, 5, 0]
    assert (drawn[52:59, 45:70].max(-1) < 60).any()
    drawn[:] = 0
    assert visualizer.get_image().any()  # what was given away is a copy


def test_without_a_picture():
    with pytest.raises(ValueError, match='call set_image first'):
        DetLocalVisualizer(name='no picture').draw_bboxes(np.ones((1, 4)), edge_colors=[(1, 1, 1)])
