import numpy as np
import pytest

from mmdet.datasets.formats import Collection, read_data, split_pictures, with_validation, write_data
from mmdet.datasets.formats.writing import WRITERS
from mmdet.datasets.raw import RawBox, RawPicture
from mmdet.errors import UserFileError, UserValueError

BOXES = [(0.0, 1.25, 40.0, 33.3), (5.5, 6.5, 7.0, 60.0)]
POLYGON = [1.5, 2.0, 30.25, 2.0, 30.25, 33.0, 1.5, 33.0]


def picture_of(root, name, *boxes, size=(64, 64)):
    return RawPicture(name, str(root / name), size, list(boxes))


@pytest.fixture
def collection(folder):
    root = folder({'x/a.jpg': (64, 64), 'y/a.jpg': (64, 64), 'b.png': (80, 64)})
    pictures = [
        picture_of(root, 'x/a.jpg', RawBox(BOXES[0], 'cat', ''), RawBox(BOXES[1], 'dog', '')),
        picture_of(root, 'y/a.jpg'),
        picture_of(root, 'b.png', RawBox(BOXES[1], 'dog', ''), size=(80, 64)),
    ]
    return Collection(root, 'hand', ['cat', 'dog'], {'train': pictures[:2], 'val': pictures[2:]})


def boxes_of(collection):
    return {
        split: sorted((box.category, *np.round(box.xyxy, 9)) for picture in group for box in picture.boxes)
        for split, group in collection.splits.items()
    }


@pytest.mark.parametrize('format', WRITERS)
def test_what_is_written_is_read_again(collection, tmp_path, format):
    assert write_data(collection, tmp_path / 'out', format) == []
    again = read_data(tmp_path / 'out')
    assert again.format == format and again.classes == collection.classes
    assert boxes_of(again) == boxes_of(collection)
    assert {split: len(group) for split, group in again.splits.items()} == {'train': 2, 'val': 1}


@pytest.mark.parametrize('format', ['coco', 'cvat', 'label-studio', 'labelme', 'yolo'])
def test_masks(collection, tmp_path, format):
    collection.splits['val'][0].boxes[0].segmentation = [POLYGON]
    write_data(collection, tmp_path / 'out', format)
    (box,) = read_data(tmp_path / 'out').splits['val'][0].boxes
    np.testing.assert_allclose(box.segmentation, [POLYGON], atol=1e-9)


def test_run_lengths_through_cvat(collection, tmp_path):
    from mmdet.datasets.formats.masks import bitmap_of, code_of_bitmap

    window = np.array([[0, 1, 1], [1, 0, 1]], dtype=np.uint8)
    collection.splits['val'][0].boxes[0].segmentation = code_of_bitmap(window, 5, 7, (64, 80))
    write_data(collection, tmp_path / 'out', 'cvat')
    (box,) = read_data(tmp_path / 'out').splits['val'][0].boxes
    assert np.argwhere(bitmap_of(box.segmentation, (64, 80))).tolist() == [[7, 6], [7, 7], [8, 5], [8, 7]]


def test_crowds_and_difficult_objects(collection, tmp_path):
    collection.splits['val'][0].boxes[0].crowd = True
    collection.splits['train'][0].boxes[0].difficult = True
    for format in ('coco', 'cvat'):
        write_data(collection, tmp_path / format, format)
        again = read_data(tmp_path / format)
        assert again.splits['val'][0].boxes[0].crowd and again.splits['train'][0].boxes[0].difficult
    assert write_data(collection, tmp_path / 'yolo', 'yolo') == ['2 times: crowds and difficult objects are left out']


def test_what_cannot_be_written(collection, tmp_path):
    with pytest.raises(UserFileError, match='is not empty'):
        write_data(collection, collection.root, 'coco')
    with pytest.raises(UserValueError, match='YOLO finds labels'):
        write_data(collection, tmp_path / 'out', 'yolo', 'none')
    with pytest.raises(UserValueError, match="no format 'voc2'"):
        write_data(collection, tmp_path / 'out', 'voc2')


def test_near_duplicates_stay_on_one_side(folder):
    from PIL import Image

    names = [f'{letter}{i}.png' for letter in 'abcdefgh' for i in range(2)]
    root = folder({f'{letter}0.png': (64, 48) for letter in 'abcdefgh'})
    for letter in 'abcdefgh':
        picture = np.asarray(Image.open(root / f'{letter}0.png')).astype(int)
        Image.fromarray((picture * 0.95).astype(np.uint8)).save(root / f'{letter}1.png')  # a little darker
    pictures = [RawPicture(name, str(root / name), (64, 48), [RawBox((0, 0, 9, 9), 'x', '')]) for name in names]
    train, val, near = split_pictures(pictures, 0.25)
    assert (len(train), len(val), near) == (12, 4, 16)
    assert {picture.name[0] for picture in val} & {picture.name[0] for picture in train} == set()
    again = split_pictures(pictures[::-1], 0.25)[1]
    assert {picture.name for picture in again} == {picture.name for picture in val}


def test_copies_by_roboflow_are_told_by_their_names(folder):
    names = [f'{stem}_jpg.rf.{digit * 12}.jpg' for stem in 'abcd' for digit in '123']
    root = folder({name: (64, 48) for name in names})
    pictures = [RawPicture(name, str(root / name), (64, 48), [RawBox((0, 0, 9, 9), 'x', '')]) for name in names]
    train, val, _ = split_pictures(pictures, 0.25)
    assert len(val) == 3 and len({picture.name[0] for picture in val}) == 1 and len(train) == 9


def test_every_class_is_on_both_sides_where_it_can_be(folder):
    root = folder({f'{i}.png': (32, 32) for i in range(12)})
    pictures = [
        picture_of(root, f'{i}.png', RawBox((0, 0, 9, 9), 'rare' if i < 2 else 'usual', ''), size=(32, 32))
        for i in range(12)
    ]
    sides = split_pictures(pictures, 0.25)[:2]
    assert all({box.category for p in side for box in p.boxes} == {'rare', 'usual'} for side in sides)


@pytest.mark.parametrize(
    'given, made',
    [
        ({'': 2, 'test': 1}, {'train': 2, 'val': 1, 'test': 1}),
        ({'train': 2, 'val': 1}, {'train': 2, 'val': 1}),
        ({'': 3}, {'train': 2, 'val': 1}),
    ],
)
def test_with_validation(folder, given, made):
    root = folder({f'{i}.png': (32, 32) for i in range(3)})
    pictures = [picture_of(root, f'{i}.png', RawBox((0, 0, 9, 9), 'x', ''), size=(32, 32)) for i in range(3)]
    splits, start = {}, 0
    for split, count in given.items():
        splits[split] = pictures[start : start + count]
        start += count
    found = with_validation(Collection(root, 'hand', ['x'], splits))
    assert {split: len(group) for split, group in found.splits.items()} == made
