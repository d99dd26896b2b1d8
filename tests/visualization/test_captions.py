from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.engine.hooks import GroundingVisualizationHook
from mmdet.engine.hooks.visualization_hook import draw_all_character
from mmdet.errors import UserError
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.caption import colored_runs, draw_caption, draw_grounded, phrases_of
from mmdet.visualization.palette import get_palette

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    'told, phrases',
    [
        (-1, {0: [[0, 5]]}),
        ([[[0, 1]], [[2, 3], [4, 5]]], {0: [[0, 1]], 1: [[2, 3], [4, 5]]}),
        ({3: [[0, 2]]}, {3: [[0, 2]]}),
    ],
)
def test_phrases_of_all_forms(told, phrases):
    assert phrases_of('a b c', told) == phrases


def test_runs_change_where_the_colour_does():
    runs = colored_runs('a cat, a dog', {0: [[2, 5]], 1: [[9, 99]]}, [RED, BLUE])
    assert [(text, color) for text, color in runs if color in (RED, BLUE)] == [('cat', RED), ('dog', BLUE)]
    assert ''.join(text for text, _ in runs) == 'a cat, a dog'


def has(image, color):
    return (np.abs(image.astype(int) - color).sum(-1) < 120).any()


def test_captions_are_broken_into_lines():
    one = draw_caption([('cat ', RED), ('dog', BLUE)], 200)
    many = draw_caption([('cat dog ' * 9, RED), ('dog', 'blue')], 100)
    assert one.shape[1] == 200 and many.shape[1] == 100 and many.shape[0] > 3 * one.shape[0]
    assert has(one, RED) and has(one, BLUE) and has(many, BLUE)
    assert draw_caption([], 50).shape[1] == 50
    visualizer = DetLocalVisualizer()
    assert np.array_equal(draw_all_character(visualizer, [['cat', RED]], 80), visualizer.get_image())


def sample(**fields):
    made = DetDataSample(metainfo=dict(img_path='1.png', ori_shape=(60, 80)) | fields)
    made.pred_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5, 30, 30], [40, 20, 70, 50], [0, 0, 9, 9]]),
        scores=torch.tensor([0.9, 0.8, 0.1]),
        labels=torch.tensor([0, 1, 1]),
    )
    return made


def test_phrases_have_the_colours_of_their_boxes():
    made = sample(text='a cat and a dog', tokens_positive=[[[2, 5]], [[12, 15]]], phrase_ids=[1])
    image, visualizer = np.full((60, 80, 3), 255, np.uint8), DetLocalVisualizer()
    drawn = draw_grounded(visualizer, image, made)
    assert drawn.shape[1] == 80 and drawn.shape[0] > 60
    colors = get_palette('random', 2)
    assert all(has(drawn[60:], color) and has(drawn[:60], color) for color in colors)
    made.gt_instances = InstanceData(bboxes=torch.tensor([[1.0, 1, 20, 20]]), labels=torch.tensor([7]))
    assert draw_grounded(visualizer, image, made).shape[1] == 160
    made.set_metainfo(dict(phrase_ids=[4]))
    with pytest.raises(UserError, match='phrase 4'):
        draw_grounded(visualizer, image, made)
    assert visualizer.dataset_meta == {}


@pytest.mark.parametrize(
    'fields, height',
    [
        (dict(text='a cat', tokens_positive=-1), 88),
        (dict(text=['cat', 'dog']), 60),
        (dict(text='cat . dog .', custom_entities=True), 60),
        ({}, 60),
    ],
)
def test_the_hook_writes_captions_below(tmp_path, fields, height):
    cv2.imwrite(str(tmp_path / '1.png'), np.full((60, 80, 3), 255, np.uint8))
    DetLocalVisualizer.get_instance('visualizer', vis_backends=[])
    hook = GroundingVisualizationHook(draw=True, test_out_dir='drawn')
    runner = SimpleNamespace(work_dir=str(tmp_path), timestamp='now', test_loop=None)
    hook.after_test_iter(runner, 0, {}, [sample(**fields | dict(img_path=str(tmp_path / '1.png')))])
    (path,) = (tmp_path / 'now' / 'drawn').rglob('*.png')
    assert cv2.imread(str(path)).shape == (height, 80, 3)
