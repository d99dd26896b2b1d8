"""What inference is given: files, folders, arrays, tensors and Pillow pictures of one picture become one input."""

import os

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdet.apis.inference import compose, inference_pipeline, list_inputs
from mmdet.datasets.transforms import InferencerLoader, LoadImageFromFile

BGR = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def pipeline(default_scope):
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(60, 40)), dict(type='PackDetInputs')]
    return compose(inference_pipeline(Config(dict(test_dataloader=dict(dataset=dict(pipeline=steps))))))


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


@pytest.mark.parametrize(
    'given',
    [
        BGR,
        BGR / 255,
        BGR.astype(np.uint16) * 257,
        np.dstack([BGR, BGR[..., :1]]),
        tensor(BGR[..., ::-1]).permute(2, 0, 1),
        tensor(BGR[..., ::-1] / 255).permute(2, 0, 1).float(),
        Image.fromarray(BGR[..., ::-1]),
        Image.fromarray(BGR[..., ::-1]).convert('RGBA'),
    ],
    ids=['bytes', 'floats', 'uint16', 'alpha', 'tensor', 'float tensor', 'pillow', 'pillow with alpha'],
)
def test_one_picture_in_all_its_forms(given, pipeline, tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), BGR)
    expected = pipeline(dict(img_path=str(path)))
    for item in list_inputs(given) + list_inputs([given]):
        found = pipeline(dict(img=item))
        assert torch.equal(found['inputs'], expected['inputs'])
        assert found['data_samples'].ori_shape == (20, 30)
    assert torch.equal(pipeline(given)['inputs'], expected['inputs'])
    assert torch.equal(pipeline(path)['inputs'], expected['inputs'])


@pytest.mark.parametrize('values', [BGR[..., 0], BGR[..., 0].astype(np.uint16) << 4, BGR[..., 0] > 100])
def test_grey_pictures(values, pipeline, tmp_path):
    path = tmp_path / 'a.png'
    if values.dtype == bool:
        Image.fromarray(values).save(path)
    else:
        cv2.imwrite(str(path), values)
    expected = pipeline(dict(img_path=str(path)))['inputs']
    assert expected.shape == (3, 40, 60) and expected.max() > 200
    for given in (values, values[..., None]):
        assert torch.equal(pipeline(given)['inputs'], expected)


def test_the_loader_of_the_config_decides():
    """A network for grey pictures gets grey arrays, one that takes everything gets it as it is."""
    floats = BGR / 255
    assert InferencerLoader(color_type='grayscale')(floats)['img'].shape == (20, 30)
    assert InferencerLoader(color_type='unchanged')(floats)['img'] is floats
    deep = BGR.astype(np.uint16) << 2
    assert np.array_equal(InferencerLoader(bit_depth=10)(deep)['img'], BGR)
    with pytest.raises(ValueError, match='bit_depth=7'):
        LoadImageFromFile(bit_depth=7)


def test_folders_hold_all_kinds_of_pictures(tmp_path):
    for name in ('a.JPG', 'b.jfif', 'c.txt', 'd.webp', 'e.gif'):
        (tmp_path / name).touch()
    assert [os.path.basename(path) for path in list_inputs(tmp_path)] == ['a.JPG', 'b.jfif', 'd.webp', 'e.gif']


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    for given in (tmp_path / 'a.png', '/dev/zero'):
        with pytest.raises(FileNotFoundError, match='is no regular file'):
            list_inputs(given)
