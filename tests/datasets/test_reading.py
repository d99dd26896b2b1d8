"""Each mistake of a COCO file: what is repaired and counted, and what stops with file, entry and value."""

import json
from collections import Counter

import pytest

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.errors import UserError
from mmdet.evaluation import load_coco

CLASSES = dict(metainfo=dict(classes=('cat', 'dog', 'cow')))
SQUARE = [[10, 20, 40, 20, 40, 40, 10, 40]]


def image(number, **changes):
    return dict(id=number, file_name=f'{number}.jpg', width=80, height=60) | changes


def annotation(number=1, **changes):
    entry = dict(id=number, image_id=1, category_id=1, bbox=[10, 20, 30, 20], area=600, iscrowd=0) | changes
    return {key: value for key, value in entry.items() if value is not ...}


def dataset_of(coco_file, images=None, annotations=(), **options):
    if images is None:
        images = [image(i) for i in (1, 2, 3)]
    return CocoDataset(**coco_file(replaced=dict(images=images, annotations=list(annotations))), **CLASSES | options)


def boxes_of(dataset):
    return {
        info['img_id']: [x['bbox'] for x in info['instances']]
        for info in map(dataset.get_data_info, range(len(dataset)))
    }


BOX = [10, 20, 40, 40]


@pytest.mark.parametrize(
    'changes, kind, expected',
    [
        (dict(area=0), 'area computed', BOX),
        (dict(area=...), 'area computed', BOX),
        (dict(area=None), 'area computed', BOX),
        (dict(area=-4), 'area computed', BOX),
        (dict(area='nan'), 'area computed', BOX),
        (dict(area=10**400), 'area computed', BOX),
        (dict(image_id='1'), 'id as text and as number', BOX),
        (dict(image_id='0001'), 'id as text and as number', BOX),
        (dict(category_id='1'), 'id as text and as number', BOX),
        (dict(id=...), 'annotation without id', BOX),
        (dict(id=None), 'annotation without id', BOX),
        (dict(bbox=['10', '20', '30', '2e1']), 'coordinate written as text', BOX),
        (dict(bbox=[], segmentation=SQUARE), 'box taken from its mask', BOX),
        (dict(bbox=..., segmentation=SQUARE), 'box taken from its mask', BOX),
        (dict(iscrowd='0'), 'flag that is no 0 or 1', BOX),
        (dict(iscrowd=None), 'flag that is no 0 or 1', BOX),
        (dict(ignore='false'), 'flag that is no 0 or 1', BOX),
        (dict(segmentation=SQUARE[0]), 'polygon without its list', BOX),
        (dict(segmentation=[[10, 20], [40, 20], [40, 40]]), 'polygon of pairs', BOX),
        (dict(segmentation=[dict(size=[60, 80], counts=[4700, 100])]), 'run lengths in a list', BOX),
        (dict(segmentation=[[1, 2, 3, 4]]), 'polygon without three points', BOX),
        (dict(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), 'polygon with half a point', BOX),
        (dict(bbox=[10, 20, 0, 20]), 'degenerate box', None),
        (dict(bbox=[10, 20, -30, 20]), 'degenerate box', None),
        (dict(bbox=[10, 20, 0.5, 20]), 'thinner than a pixel', None),
        (dict(bbox=[100, 20, 5, 20]), 'box outside', None),
        (dict(ignore=1), 'marked to be ignored', None),
        (dict(image_id=77), 'orphan image id', None),
        (dict(image_id=[1]), 'orphan image id', None),
        (dict(category_id=77), 'orphan category id', None),
    ],
)
def test_what_has_one_meaning_and_what_is_left_out(coco_file, changes, kind, expected):
    good = annotation(50, image_id=2)
    dataset = dataset_of(coco_file, annotations=[annotation(**changes), good])
    assert dataset.report.counts[kind] == 1
    assert boxes_of(dataset) == {1: [] if expected is None else [expected], 2: [BOX], 3: []}
    assert dataset.report.read['boxes'] == 2
    assert dataset.report.used['boxes'] == (1 if expected is None else 2)
    assert kind in dataset.report.table()


def test_flags_as_text(coco_file):
    dataset = dataset_of(coco_file, annotations=[annotation(1, iscrowd='true'), annotation(2, iscrowd='0')])
    assert [x['ignore_flag'] for x in dataset.get_data_info(0)['instances']] == [1, 0]


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(bbox=[]), r"annotation 1 of '1.jpg' has the box \[\]"),
        (dict(bbox=...), "annotation 1 of '1.jpg' has no key 'bbox'"),
        (dict(bbox=[1, 2, 3]), r'has the box \[1, 2, 3\]'),
        (dict(bbox=[1, 2, 3, 4, 5]), r'has the box \[1, 2, 3, 4, 5\]'),
        (dict(bbox=[1, 2, None, 4]), r'has the box \[1, 2, None, 4\]'),
        (dict(bbox=[1, 2, True, 4]), r'has the box \[1, 2, True, 4\]'),
        (dict(bbox=[1, 2, 'x', 4]), r"has the box \[1, 2, 'x', 4\]"),
        (dict(bbox='1 2 3 4'), "has the box '1 2 3 4'"),
        (dict(bbox=dict(x=1)), r"has the box \{'x': 1\}"),
        (dict(bbox=[1, 2, float('nan'), 4]), r'has the box \[1, 2, nan, 4\]'),
        (dict(bbox=[1, 2, float('inf'), 4]), r'has the box \[1, 2, inf, 4\]'),
        (dict(bbox=[1, 2, 1e300, 4]), r'has the box \[1, 2, 1e\+300, 4\], far outside'),
        (dict(bbox=[1, 2, 10**400, 4]), r'has the box \[1, 2, 10000'),
        (dict(bbox=[0.1, 0.2, 0.3, 0.4]), 'has the box .* boxes lie in 0..1'),
        (dict(image_id=...), "annotation 1 has no key 'image_id'"),
        (dict(category_id=...), "annotation 1 of '1.jpg' has no key 'category_id'"),
        (dict(iscrowd='maybe'), "has iscrowd 'maybe'"),
        (dict(segmentation=[[0, 0, 2e8, 0, 9, 9]]), "of '1.jpg' has a polygon with the coordinate 200000000.0"),
        (dict(segmentation=[[0, 0, float('nan'), 0, 9, 9]]), 'has a polygon with the coordinate nan'),
        (dict(segmentation=[[0, 0, 'a', 0, 9, 9]]), "has a polygon with 'a' among its numbers"),
        (dict(segmentation='0,0,9,9'), "is '0,0,9,9', neither polygons nor a run-length code"),
        (dict(segmentation=dict(size=[80, 60], counts=[4800])), r'of size \[80, 60\], but the picture is \[60, 80\]'),
        (dict(segmentation=dict(size=[60, 80], counts=[4000])), r'end after 4000 pixels of \[60, 80\]'),
        (dict(segmentation=dict(size=[60, 80], counts=[5000, -200])), r'no whole numbers from 0: \[5000, -200\]'),
        (dict(segmentation=dict(size=[60, 80], counts='not a code')), "compressed run lengths that are none: 'not a"),
        (dict(segmentation=dict(size=[60, 80])), 'has run lengths None'),
        (dict(segmentation=dict(counts=[4800])), 'of size None'),
        (dict(segmentation=[dict(size=[60, 80], counts=[1])]), 'end after 1 pixels'),
    ],
)
def test_what_has_no_meaning_stops_with_file_entry_and_value(coco_file, changes, words):
    with pytest.raises(UserError, match=words) as error:
        dataset_of(coco_file, annotations=[annotation(**changes)])
    assert 'ann.json' in str(error.value) and '\n' not in str(error.value)


def test_the_first_is_told_and_the_others_are_counted(coco_file):
    annotations = [annotation(1), annotation(2, bbox=[1]), annotation(3, bbox=[2])]
    with pytest.raises(UserError, match=r'annotation 2 of .* has the box \[1\].*\(1 more like this'):
        dataset_of(coco_file, annotations=annotations)


def test_ids_that_come_twice(coco_file):
    with pytest.raises(UserError, match=r"image id 1 is both '1.jpg' \(80x60\) and '2.jpg' \(80x60\)"):
        dataset_of(coco_file, [image(1), image(2, id=1)], [annotation()])
    with pytest.raises(UserError, match=r"image id 1 is both '1.jpg' \(80x60\) and '1.jpg' \(60x80\)"):
        dataset_of(coco_file, [image(1), image(1, width=60, height=80)], [annotation()])
    dataset = dataset_of(coco_file, [image(1), image(1), image(2)], [annotation(1), annotation(2)])
    assert boxes_of(dataset) == {1: [BOX, BOX], 2: []} and dataset.report.counts['picture listed twice'] == 1
    with pytest.raises(UserError, match=r"1 is given twice, for '1.jpg' .* and '2.jpg'"):
        dataset_of(coco_file, annotations=[annotation(1), annotation(1, image_id=2)])


def test_ids_are_text_in_one_place_and_numbers_in_the_other(coco_file):
    images = [image(i, id=str(i)) for i in (1, 2)] + [image(3, id='c')]
    annotations = [annotation(1), annotation(2, image_id=2), annotation(3, image_id='c'), annotation(4, image_id='2')]
    dataset = dataset_of(coco_file, images, annotations)
    assert {key: len(boxes) for key, boxes in boxes_of(dataset).items()} == {'1': 1, '2': 2, 'c': 1}
    assert dataset.report.counts['id as text and as number'] == 2
    both = [image(1, id=1), image(2, id='1')]  # a number and a text that are two ids stay two
    annotations = [annotation(1), annotation(2, image_id='1')]
    assert {key: len(boxes) for key, boxes in boxes_of(dataset_of(coco_file, both, annotations)).items()} == {
        1: 1,
        '1': 1,
    }


def test_nothing_that_belongs_to_the_listed_pictures(coco_file):
    with pytest.raises(UserError, match=r"no annotation has the image_id .* lists 1, 2, 3.* belongs to image 'x1'"):
        dataset_of(coco_file, annotations=[annotation(image_id='x1')])


@pytest.mark.parametrize(
    'changes, kind',
    [
        (dict(width=0), 'size taken from the picture'),
        (dict(width=None), 'size taken from the picture'),
        (dict(height=-60), 'size taken from the picture'),
        (dict(height='Unspecified'), 'size taken from the picture'),
        (dict(height=1e30), 'size taken from the picture'),
        (dict(height='60', width='80'), 'number written as text'),
        (dict(height=60.0), 'number written as text'),
        (dict(file_name='C:\\data\\1.jpg'), 'file name of another system'),
        (dict(file_name='/home/me/data/1.jpg'), 'file name of another system'),
    ],
)
def test_pictures_whose_entry_is_repaired(coco_file, changes, kind):
    dataset = dataset_of(coco_file, [image(1, **changes)], [annotation()])
    info = dataset.get_data_info(0)
    assert (info['width'], info['height']) == (80, 60) and info['img_path'].endswith('/1.jpg')
    assert type(info['width']) is int and type(info['height']) is int
    assert dataset.report.counts == {kind: 1}


@pytest.mark.parametrize(
    'changes, words',
    [
        (
            dict(width=0, file_name='no.jpg'),
            "image 1 of 'no.jpg' has the size 0x60, and its picture cannot be measured",
        ),
        (dict(file_name=None), 'image 1 has the file name None'),
        (dict(file_name=''), "image 1 has the file name ''"),
        (dict(id=None), 'image 1 has the id None'),
        (dict(id=[1]), r'image 1 has the id \[1\]'),
    ],
)
def test_pictures_whose_entry_has_no_meaning(coco_file, changes, words):
    with pytest.raises(UserError, match=words):
        dataset_of(coco_file, [image(1, **changes)], [annotation()])


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', 'is empty'),
        (b' \n', 'is empty'),
        (b'[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', 'holds a list of results, not an object'),
        (b'[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', 'holds a list of annotations'),
        (b'{"images": [], "categories": {}}', '"categories" is {}, not a list'),
        (b'{"images": [], "categories": [], "annotations": [3]}', 'an entry of "annotations" is 3, not an object'),
        (b'[' * 100000, 'nested too deeply'),
        (b'\xff\xfe\xff', 'is not valid JSON'),
        (b'{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "1 is both 'a' and 'b'"),
    ],
)
def test_files_without_meaning(tmp_path, content, words):
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    for read in (lambda: CocoDataset(ann_file=str(path), **CLASSES), lambda: COCO(str(path))):
        with pytest.raises(UserError, match=words) as error:
            read()
        assert 'a.json' in str(error.value)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_files_in_other_encodings(coco_file, tmp_path, encoding):
    arguments = coco_file()
    path = tmp_path / 'ann.json'
    path.write_text(path.read_text(), encoding=encoding)
    assert len(CocoDataset(**arguments, **CLASSES)) == 3
    assert len(load_coco(str(path)).imgs) == 3


def test_a_sound_file_is_told_in_one_line(coco_file):
    dataset = CocoDataset(**coco_file(), **CLASSES)
    assert dataset.report.table().endswith('ann.json: 3 pictures, 2 boxes, all used')
    assert not dataset.report.counts


def test_the_table(coco_file):
    annotations = [annotation(1, area=0), annotation(2, area=0), annotation(3, bbox=[9, 9, 0, 9])]
    dataset = dataset_of(coco_file, annotations=annotations, filter_cfg=dict(filter_empty_gt=True))
    rows = [line.strip('|').split('|') for line in dataset.report.table().splitlines() if line.startswith('|')]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ['', 'pictures', 'boxes', 'masks'],
        ['read', '3', '3', '0'],
        ['repaired: area computed', '', '2', ''],
        ['left out: degenerate box', '', '1', ''],
        ['left out: filter_empty_gt (no annotation of the classes)', '2', '', ''],
        ['used', '1', '2', '0'],
    ]


def test_masks_are_looked_at_where_they_are_loaded(coco_file):
    wrong = [annotation(segmentation=[[0, 0, 2e8, 0, 9, 9]])]
    with_boxes = [dict(type='LoadAnnotations', with_bbox=True)]
    assert len(dataset_of(coco_file, annotations=wrong, pipeline=with_boxes)) == 3
    with pytest.raises(UserError, match='200000000'):
        dataset_of(coco_file, annotations=wrong, pipeline=[dict(type='LoadAnnotations', with_mask=True)])


def test_every_finding_for_those_who_look_for_mistakes(coco_file):
    """Nothing stops the reading, and what is refused is left out."""
    arguments = coco_file(
        replaced=dict(
            images=[image(1), image(2, width=0, file_name='no.jpg'), image(3)],
            annotations=[
                annotation(1, bbox=[1]),
                annotation(2, area=0),
                annotation(3, image_id='1'),
                annotation(3, image_id=3),
                annotation(4, segmentation=[[0, 0, 2e8, 0, 9, 9]]),
                annotation(5, category_id=8),
            ],
        )
    )
    raw = CocoDataset(**arguments, **CLASSES, lazy_init=True).raw_annotations()
    assert Counter(fault.kind for fault in raw.faults) == {
        'unreadable size': 1,
        'unreadable annotation': 1,
        'area computed': 1,
        'id as text and as number': 1,
        'repeated annotation id': 1,
        'unreadable polygon': 1,
        'orphan category id': 1,
    }
    assert [[box.label for box in picture.boxes] for picture in raw.pictures] == [
        ['annotation 2', 'annotation 3', 'annotation 5'],
        [],
        [],
    ]
    first = next(finding for finding in raw.report.findings if finding.kind == 'unreadable annotation')
    assert (first.action, first.where, first.entry, first.value, first.image_id) == (
        'refused', '1.jpg', 'annotation 1', [1], 1,
    )  # fmt: skip


def test_evaluation_reads_the_same(coco_file, tmp_path):
    coco_file(replaced=dict(annotations=[annotation(1, image_id='1'), annotation(2, iscrowd='0', id=None)]))
    coco = load_coco(str(tmp_path / 'ann.json'))
    assert [ann['iscrowd'] for ann in coco.imgToAnns[1]] == [0, 0]
    content = json.loads((tmp_path / 'ann.json').read_text())
    content['images'][1]['id'] = 1
    with pytest.raises(UserError, match=r"image id 1 is both '1.jpg' .* and '2.jpg'"):
        load_coco(content)


@pytest.mark.parametrize('missing', [..., None, []])
def test_objects_without_the_mask_that_is_loaded(coco_file, missing):
    entries = [annotation(1, segmentation=SQUARE), annotation(2, segmentation=missing)]
    pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    dataset = dataset_of(coco_file, annotations=entries, pipeline=pipeline)
    assert dataset.report.counts == {'object without a usable mask': 1}
    assert dataset.report.used['masks'] == 1
    results = dataset.pipeline(dict(dataset.get_data_info(0), ori_shape=(60, 80)))
    assert results['gt_ignore_flags'].tolist() == [False, True]
    assert len(results['gt_masks']) == 2
    assert dataset_of(coco_file, annotations=entries).report.counts == {}


def test_no_object_has_the_mask_that_is_loaded(coco_file):
    pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    with pytest.raises(UserError, match='none of its 1 annotations has a mask'):
        dataset_of(coco_file, annotations=[annotation()], pipeline=pipeline)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(ann_file=['a.json', 'b.json']), 'ann_file is a list.*ConcatDataset'),
        (dict(data_prefix='img/'), r"such as data_prefix=dict\(img='img/'\)"),
    ],
)
def test_arguments_of_another_form(coco_file, options, words):
    with pytest.raises(UserError, match=words):
        CocoDataset(**coco_file() | options)
