"""The same two objects, written by hand in each format: a cat at 10..30, 20..50, a dog at 0..100, 40..80 of 100x80."""

import base64
import io
import json
import zlib

import numpy as np
import pytest

from mmdet.datasets.formats import read_data
from mmdet.errors import UserError, UserFileError, UserValueError

SIZE = (100, 80)
VOC = """<annotation><filename>a.jpg</filename>
<size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>cat</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>{4}</xmin><ymin>{5}</ymin><xmax>{6}</xmax><ymax>{7}</ymax></bndbox></object></annotation>"""
FROM_ONE = (11, 21, 31, 51, 1, 41, 101, 81)
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label><label><name>dog</name></label>
</labels></task></meta>
<image id="0" name="a.jpg" width="100" height="80" {0}>
<box label="cat" occluded="0" xtl="10.0" ytl="20.0" xbr="30.0" ybr="50.0" z_order="0"/>
<box label="dog" xtl="0" ytl="40" xbr="100" ybr="80"/>
<polyline label="dog" points="1,2;3,4"/></image></annotations>"""
COCO = {
    'images': [{'id': 0, 'file_name': 'a.jpg', 'width': 100, 'height': 80}],
    'categories': [
        {'id': 0, 'name': 'animals', 'supercategory': 'none'},
        {'id': 1, 'name': 'cat', 'supercategory': 'animals'},
        {'id': 2, 'name': 'dog', 'supercategory': 'animals'},
    ],
    'annotations': [
        {'id': 0, 'image_id': 0, 'category_id': 1, 'bbox': [10, 20, 20, 30], 'area': 600, 'iscrowd': 0},
        {'id': 1, 'image_id': 0, 'category_id': 2, 'bbox': [0, 40, 100, 40], 'area': 4000, 'iscrowd': 0},
    ],
}
YOLO = '0 0.2 0.4375 0.2 0.375\n1 0.5 0.75 1 0.5\n'
LABELME = {
    'imagePath': '..\\pictures\\a.jpg',
    'imageWidth': 100,
    'imageHeight': 80,
    'shapes': [
        {'label': 'cat', 'shape_type': 'rectangle', 'points': [[30, 50], [10, 20]]},
        {'label': 'dog', 'shape_type': 'rectangle', 'points': [[0, 40], [100, 80]]},
        {'label': 'dog', 'shape_type': 'line', 'points': [[0, 40], [100, 80]]},
    ],
}
STUDIO = [
    {
        'id': 5,
        'data': {'image': '/data/upload/1/0a1b2c3d-a.jpg'},
        'annotations': [
            {'was_cancelled': True, 'result': []},
            {
                'result': [
                    {
                        'type': 'rectanglelabels',
                        'original_width': 100,
                        'original_height': 80,
                        'value': {'x': x, 'y': y, 'width': w, 'height': h, 'rotation': 0, 'rectanglelabels': [name]},
                    }
                    for name, x, y, w, h in (('cat', 10, 25, 20, 37.5), ('dog', 0, 50, 100, 50))
                ]
            },
        ],
    }
]
CSV = 'filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,30,50\na.jpg,100,80,dog,0,40,100,80\n'
FIFTYONE = {
    'samples': [
        {
            'filepath': 'data/a.jpg',
            'tags': ['validation'],
            'metadata': {'width': 100, 'height': 80},
            'ground_truth': {
                '_cls': 'Detections',
                'detections': [
                    {'label': 'cat', 'bounding_box': [0.1, 0.25, 0.2, 0.375]},
                    {'label': 'dog', 'bounding_box': [0, 0.5, 1, 0.5]},
                ],
            },
        }
    ]
}
DATA_YAML = 'train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, dog]\n'
CASES = {
    # name: (files, format, split)
    'voc devkit': (
        {
            'JPEGImages/a.jpg': SIZE,
            'Annotations/a.xml': VOC.format(*FROM_ONE),
            'ImageSets/Main/val.txt': 'a\n',
            'ImageSets/Main/trainval.txt': 'a\n',
        },
        'voc',
        'val',
    ),
    'voc beside the pictures': ({'train/a.jpg': SIZE, 'train/a.xml': VOC.format(*FROM_ONE)}, 'voc', 'train'),
    'cvat': ({'images/a.jpg': SIZE, 'annotations.xml': CVAT.format('subset="Test"')}, 'cvat', 'test'),
    'roboflow coco': ({'valid/a.jpg': SIZE, 'valid/_annotations.coco.json': json.dumps(COCO)}, 'coco', 'val'),
    'coco': (
        {'val2017/a.jpg': SIZE, 'annotations/instances_val2017.json': json.dumps(COCO)},
        'coco',
        'val',
    ),
    'roboflow yolo': (
        {
            'data.yaml': DATA_YAML,
            'train/images/a.jpg': SIZE,
            'train/labels/a.txt': YOLO,
            'valid/images/empty.jpg': SIZE,
        },
        'yolo',
        'train',
    ),
    'yolo lists': (
        {
            'cats.yaml': 'path: .\ntrain: train.txt\nval: images/val\nnames: {0: cat, 1: dog}\n',
            'train.txt': './images/x/a.jpg\n',
            'images/x/a.jpg': SIZE,
            'images/val/b.jpg': SIZE,
            'labels/x/a.txt': YOLO,
        },
        'yolo',
        'train',
    ),
    'labelme': ({'pictures/a.jpg': SIZE, 'labels/a.json': json.dumps(LABELME)}, 'labelme', ''),
    'label studio': ({'images/a.jpg': SIZE, 'export.json': json.dumps(STUDIO)}, 'label-studio', ''),
    'csv': ({'test/a.jpg': SIZE, 'test_labels.csv': CSV}, 'csv', 'test'),
    'fiftyone': ({'data/a.jpg': SIZE, 'samples.json': json.dumps(FIFTYONE)}, 'fiftyone', 'val'),
}


@pytest.mark.parametrize('name', CASES)
def test_each_format_is_read_as_the_same_list(folder, name):
    files, format, split = CASES[name]
    found = read_data(folder(files))
    assert (found.format, found.classes) == (format, ['cat', 'dog'])
    (picture,) = [picture for picture in found.splits[split] if picture.name.endswith('a.jpg')]
    assert picture.size == SIZE
    assert [box.category for box in picture.boxes] == ['cat', 'dog']
    np.testing.assert_allclose([box.xyxy for box in picture.boxes], [(10, 20, 30, 50), (0, 40, 100, 80)], atol=1e-12)


def test_difficult_objects_stay_difficult(folder):
    found = read_data(folder(CASES['voc devkit'][0]))
    assert [box.difficult for box in found.pictures[0].boxes] == [False, True]


def test_voc_that_counts_from_zero(folder):
    files = {'a.jpg': SIZE, 'a.xml': VOC.format(10, 20, 30, 50, 0, 40, 100, 80)}
    found = read_data(folder(files))
    assert found.pictures[0].boxes[0].xyxy == (10, 20, 30, 50) and 'count from 0' in found.notes[0]


def test_polygons(folder):
    labels = '1 0.1 0.5 0.4 0.5 0.4 1\n'
    yolo = {'data.yaml': 'train: images\nval: images\nnames: [a, b]\n', 'images/a.jpg': SIZE, 'labels/a.txt': labels}
    box = read_data(folder(yolo)).pictures[0].boxes[0]
    assert box.category == 'b' and box.xyxy == (10, 40, 40, 80) and box.segmentation == [[10, 40, 40, 40, 40, 80]]


def test_cvat_mask_and_turned_box(folder):
    shapes = (
        '<mask label="cat" rle="1, 2, 3" left="10" top="20" width="3" height="2"/>'
        '<box label="dog" xtl="40" ytl="10" xbr="60" ybr="20" rotation="90"/>'
    )
    text = f'<annotations><image id="0" name="a.jpg" width="100" height="80">{shapes}</image></annotations>'
    mask, turned = read_data(folder({'a.jpg': SIZE, 'x.xml': text})).pictures[0].boxes
    from mmdet.datasets.formats.masks import bitmap_of

    assert np.argwhere(bitmap_of(mask.segmentation, (80, 100))).tolist() == [[20, 11], [20, 12]]
    np.testing.assert_allclose(turned.xyxy, (45, 5, 55, 25))


def test_fiftyone_mask(folder):
    buffer = io.BytesIO()
    np.save(buffer, np.array([[1, 0], [1, 1]], dtype=bool))
    content = json.loads(json.dumps(FIFTYONE))
    detection = content['samples'][0]['ground_truth']['detections'][0]
    detection['mask'] = {'$binary': {'base64': base64.b64encode(zlib.compress(buffer.getvalue())).decode()}}
    box = read_data(folder({'data/a.jpg': SIZE, 'samples.json': json.dumps(content)})).pictures[0].boxes[0]
    from mmdet.datasets.formats.masks import bitmap_of

    assert np.argwhere(bitmap_of(box.segmentation, (80, 100))).tolist() == [[20, 10], [21, 10], [21, 11]]


def test_turned_rectangle_of_label_studio(folder):
    content = json.loads(json.dumps(STUDIO))
    content[0]['annotations'][1]['result'][0]['value']['rotation'] = 90
    box = read_data(folder({'a.jpg': SIZE, 'export.json': json.dumps(content)})).pictures[0].boxes[0]
    np.testing.assert_allclose(box.xyxy, (-20, 20, 10, 40))


@pytest.mark.parametrize(
    'files, words',
    [
        ({'labels/a.txt': '0 0.5 0.5 1\n'}, 'line 1 .* has 3 numbers after the class'),
        ({'labels/a.txt': '7 0.5 0.5 1 1\n'}, 'line 1 .* has the class 7, but the classes are numbered from 0 to 1'),
        ({'labels/a.txt': '\n0 50 40 10 10\n'}, 'line 2 .* parts of the sides'),
        ({'labels/a.txt': '0 nan 0.5 1 1\n'}, 'line 1 .* not a class and numbers'),
        ({'data.yaml': 'train: images\nval: nowhere\nnames: [a, b]\n'}, "no 'nowhere', which it names as val"),
        ({'data.yaml': 'train: images\nval: images\nnames: {1: a, 2: b}\n'}, 'numbered 0, 1, 2'),
        ({'data.yaml': 'train: images\nnames: [a]\nnc: 2\n'}, '"nc" is 2, but "names" has 1 classes'),
    ],
)
def test_mistakes_in_yolo_name_file_and_line(folder, files, words):
    usual = {'data.yaml': 'train: images\nval: images\nnames: [a, b]\n', 'images/a.jpg': SIZE}
    with pytest.raises(UserError, match=words):
        read_data(folder(usual | files))


@pytest.mark.parametrize(
    'files, words',
    [
        ({'a.jpg': SIZE, 'a.xml': VOC.format('x', 1, 2, 3, 4, 5, 6, 7)}, 'object 1, cat .* four finite numbers'),
        ({'a.jpg': SIZE, 'a.xml': '<annotation><object>'}, 'not valid XML'),
        ({'a.jpg': SIZE, 'x.csv': CSV.replace('10,20', '1e99,20')}, 'row 2 .* has the box'),
        ({'a.jpg': SIZE}, '1 pictures and no annotations, in no format that is known'),
        ({'a.jpg': SIZE, 'x.xml': CVAT.format('').replace('xtl="10.0"', '')}, 'shape 1 .* four finite numbers'),
    ],
)
def test_mistakes_elsewhere(folder, files, words):
    with pytest.raises(UserError, match=words):
        read_data(folder(files))


def test_nothing_there(tmp_path):
    with pytest.raises(UserFileError, match='there is no data'):
        read_data(tmp_path / 'nowhere')
    with pytest.raises(UserValueError, match="no format 'yolov8'; formats are coco"):
        read_data(tmp_path, 'yolov8')


def test_a_picture_name_that_two_files_have(folder):
    files = {'x/a.jpg': SIZE, 'y/a.jpg': SIZE, 'z/export.json': json.dumps(STUDIO)}
    with pytest.raises(UserFileError, match='may be'):
        read_data(folder(files))


def test_what_is_left_out_is_counted(folder):
    found = read_data(folder(CASES['labelme'][0]))
    assert found.report.of('left out') == {'shape of another kind': 1}


@pytest.mark.parametrize(
    'table',
    [
        'filename;width;height;class;xmin;ymin;xmax;ymax\na.jpg;100;80;cat;10;20;30;50\n',
        'filename\tclass\txmin\tymin\txmax\tymax\na.jpg\tcat\t10\t20\t30\t50\n',
    ],
)
def test_tables_as_spreadsheets_write_them(folder, table):
    """With a mark at the beginning, and other letters between the columns."""
    root = folder({'a.jpg': SIZE})
    (root / 'boxes.csv').write_text(table, encoding='utf-8-sig')
    collection = read_data(root)
    assert collection.format == 'csv' and collection.pictures[0].boxes[0].xyxy == (10, 20, 30, 50)


def test_coco_from_windows_and_macos(folder):
    """A mark at the beginning of the file, and names whose accents are letters of their own on the disk."""
    root = folder({'e\u0301.jpg': SIZE})
    content = json.loads(json.dumps(COCO).replace('a.jpg', '\u00e9.jpg'))
    (root / 'all.json').write_text(json.dumps(content), encoding='utf-8-sig')
    (picture,) = read_data(root).pictures
    assert picture.path == str(root / 'e\u0301.jpg') and len(picture.boxes) == 2
