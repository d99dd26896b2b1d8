"""Data sets in DSDL, from files to samples."""

import json

import numpy as np
import pytest

from mmdet.datasets import DSDLDetDataset
from mmdet.datasets.reading.dsdl_file import DSDLFile, parse_type

DOMAIN = """
$dsdl-version: "0.5.3"
Animals:
    $def: class_domain
    classes: [cat, dog, great auk]
"""
TYPES = """
$dsdl-version: "0.5.3"
LocalObject:
    $def: struct
    $params: ['cdom']
    $fields:
        bbox: BBox
        label: Label[dom=$cdom]
        outline: Polygon
        crowd: Bool
        note: Str
    $optional: ['crowd', 'note', 'outline']
Picture:
    $def: struct
    $params: ['cdom']
    $fields:
        image: Image
        size: ImageShape
        map: LabelMap[dom=$cdom]
    $optional: ['map']
Sample:
    $def: struct
    $params: ['cdom']
    $fields:
        media: Picture[cdom=$cdom]
        kinds: List[etype=Label[dom=$cdom]]
        objects: List[etype=LocalObject[cdom=$cdom], ordered=True]
    $optional: ['kinds']
"""
TRAIN = """
$dsdl-version: "0.5.3"
$import: [../defs/animals, types]
meta: {dataset_name: animals}
data:
    sample-type: Sample[cdom=Animals]
    sample-path: train_samples.json
"""
RING = [[[10, 20], [40, 20], [40, 60]]]
SAMPLES = [
    dict(
        media=dict(image='train/a.jpg', size=[60, 80], map='maps/a.png'),
        kinds=['dog', 1],
        objects=[
            dict(bbox=[10, 20, 30, 40], label='dog', outline=RING, crowd=False, note='x'),
            dict(bbox=[0, 0, 5, 5], label=3, crowd=True),
        ],
    ),
    dict(media=dict(image='train/b.jpg', size=[60, 80]), objects=[]),
]
PATHS = dict(Label='./objects/*/label', ignore_flag='./objects/*/crowd')


@pytest.fixture
def folder(tmp_path, default_scope):
    for name, text in (
        ('defs/animals.yaml', DOMAIN),
        ('set-train/types.yaml', TYPES),
        ('set-train/train.yaml', TRAIN),
        ('set-train/train_samples.json', json.dumps(dict(samples=SAMPLES))),
    ):
        path = tmp_path / 'dsdl' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def dataset(folder, **more):
    prefix = dict(img_path='original')
    given = dict(data_root=str(folder), data_prefix=prefix, ann_file='dsdl/set-train/train.yaml', test_mode=True)
    return DSDLDetDataset(**{**given, 'specific_key_path': PATHS, **more})


def test_boxes_labels_and_flags(folder):
    data = dataset(folder, with_polygon=True)
    first, second = map(data.get_data_info, range(2))
    assert data.metainfo['classes'] == ('cat', 'dog', 'great auk')
    assert first['img_path'] == str(folder / 'original/train/a.jpg') and first['img_id'] == 'train/a'
    assert (first['height'], first['width']) == (60, 80) and 'seg_map_path' not in first
    assert first['instances'] == [
        dict(bbox=[10, 20, 40, 60], bbox_label=1, ignore_flag=0, mask=[[10, 20, 40, 20, 40, 60]]),
        dict(bbox=[0, 0, 5, 5], bbox_label=2, ignore_flag=1, mask=[]),
    ]
    assert second['instances'] == []


def test_what_else_a_sample_has(folder):
    paths = dict(PATHS, image_level_labels='./kinds/*', note='./objects/*/note')
    data = dataset(folder, specific_key_path=paths, with_imagelevel_label=True, with_mask=True)
    first, second = map(data.get_data_info, range(2))
    assert first['image_level_labels'].tolist() == [1, 0] and second['image_level_labels'].tolist() == []
    assert [instance['note'] for instance in first['instances']] == ['x', None]
    assert first['seg_map_path'] == str(folder / 'original/maps/a.png') and 'seg_map_path' not in second
    assert dataset(folder, with_bbox=False).get_data_info(0)['instances'] == []
    moved = dataset(folder, pre_transform=dict(BBox=lambda boxes: [[x + 1, *rest] for x, *rest in boxes]))
    assert moved.get_data_info(0)['instances'][0]['bbox'] == [11, 20, 41, 60]


def test_filters_and_some_of_the_classes(folder):
    assert len(dataset(folder, test_mode=False, filter_cfg=dict(filter_empty_gt=True))) == 1
    data = dataset(folder, metainfo=dict(classes=('great auk', 'cat')))
    assert [x['bbox_label'] for x in data.get_data_info(0)['instances']] == [0]
    assert data.report.of('left out')['not among the classes'] == 1
    with pytest.raises(ValueError, match=r"'catt' is no class of .*; did you mean cat\?"):
        dataset(folder, metainfo=dict(classes=('catt',)))


def dotted(folder):
    """Names of classes with those above them."""
    names = '[Entity.Animal.Cat, Entity.Animal, Entity.Car]'
    (folder / 'dsdl/defs/animals.yaml').write_text(DOMAIN.replace('[cat, dog, great auk]', names))
    samples = json.dumps(dict(samples=SAMPLES)).replace('"dog"', '"Entity.Animal.Cat"')
    (folder / 'dsdl/set-train/train_samples.json').write_text(samples)


def test_hierarchy(folder):
    dotted(folder)
    data = dataset(folder, with_hierarchy=True)
    assert data.metainfo['classes'] == ('Animal', 'Car', 'Cat')
    assert data.metainfo['RELATION_MATRIX'].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert [x['bbox_label'] for x in data.get_data_info(0)['instances']] == [2, 1]


def test_samples_and_types_in_one_file(folder):
    types = '\n'.join(f'    {line}' for line in TYPES.splitlines()[2:])
    for old, new in (('BBox', 'BBox[mode=xyxy]'), ('ImageShape', 'ImageShape[mode=wh]')):
        types = types.replace(old, new)
    text = f'{TRAIN}defs:\n{types}'.replace('[../defs/animals, types]', '[animals]')
    text = text.replace('sample-path: train_samples.json', f'samples: {json.dumps(SAMPLES[:1])}')
    (folder / 'dsdl/set-train/one.yaml').write_text(text)
    info = dataset(folder, ann_file='dsdl/set-train/one.yaml').get_data_info(0)
    assert info['instances'][0]['bbox'] == [10, 20, 30, 40] and info['height'] == 80


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('Int', ('Int', [], {})),
        ('List[Label[dom=$c]]', ('List', ['Label[dom=$c]'], {})),
        ('List[etype=A[c=$c, d=x], ordered=True]', ('List', [], dict(etype='A[c=$c, d=x]', ordered='True'))),
        ('A[c=[X, Y]]', ('A', [], dict(c='[X, Y]'))),
    ],
)
def test_types(text, parts):
    assert parse_type(text) == parts


def test_mistakes_are_told(folder):
    with pytest.raises(ValueError, match=r"nothing at './objects/\*/crowded'; the nearest is './objects/\*/crowd'"):
        dataset(folder, specific_key_path=dict(PATHS, ignore_flag='./objects/*/crowded'))
    with pytest.raises(ValueError, match='with_imagelevel_label=True needs specific_key_path'):
        dataset(folder, with_imagelevel_label=True)
    samples = folder / 'dsdl/set-train/train_samples.json'
    for old, new, told in (
        ('"dog"', '"fox"', r"label 'fox' at ./(kinds/\*|objects/\*/label) is none of"),
        ('[10, 20, 30, 40]', '[10, 20, 30, "wide"]', "a box of 'train/a.jpg' has 'wide' where a finite number"),
        ('"label": 3', '"labels": 3', r"a box of 'train/a.jpg' at ./objects/\*/bbox has no label"),
    ):
        samples.write_text(json.dumps(dict(samples=SAMPLES)).replace(old, new))
        with pytest.raises(ValueError, match=told):
            dataset(folder)
    (folder / 'dsdl/defs/animals.yaml').unlink()
    with pytest.raises(FileNotFoundError, match=r"imports '../defs/animals', but there is neither .*animals\.yaml"):
        dataset(folder)
    types = folder / 'dsdl/set-train/types.yaml'
    types.write_text('A:\n    $def: struct\n    $fields: {a: A}\n')
    (folder / 'dsdl/set-train/train.yaml').write_text('$import: [types]\ndata: {sample-type: A, samples: []}\n')
    with pytest.raises(ValueError, match='A is a part of itself'):
        dataset(folder)


def test_the_package_of_dsdl_reads_the_same(folder):
    package = pytest.importorskip('dsdl.dataset', reason='needs the package dsdl')
    path = folder / 'dsdl/set-train/train.yaml'
    whole = [dict(SAMPLES[0], objects=SAMPLES[0]['objects'][:1] * 2), SAMPLES[1]]  # it drops a field that one lacks
    path.with_name('train_samples.json').write_text(json.dumps(dict(samples=whole)))
    kinds = ['Image', 'ImageShape', 'Bbox', 'Label', 'Polygon']
    theirs = package.DSDLDataset(kinds, str(path), dict(type='LocalFileReader', working_dir=str(folder)))
    ours = DSDLFile(str(path))
    assert theirs.class_names == ours.domains['Animals']
    for sample, found in zip(ours.samples, theirs, strict=True):
        values = {kind: [x for f in ours.of_kind(kind) for x in f.values_of(sample).values()] for kind in kinds}
        assert [image.location for image in found['Image']] == values['Image']
        assert [shape.value for shape in found['ImageShape']] == values['ImageShape']
        assert np.array_equal([box.xywh for box in found.get('Bbox', [])], values['Bbox'])
        assert [label.name for label in found.get('Label', [])] == [
            ours.label(f, x) for f in ours.of_kind('Label') for x in f.values_of(sample).values()
        ]
        assert [polygon.openmmlabformat for polygon in found.get('Polygon', [])] == [
            [[x for point in ring for x in point] for ring in polygon] for polygon in values['Polygon']
        ]


def test_the_package_of_dsdl_sees_the_same_hierarchy(folder):
    package = pytest.importorskip('dsdl.dataset', reason='needs the package dsdl')
    dotted(folder)
    path = str(folder / 'dsdl/set-train/train.yaml')
    domain = package.DSDLDataset([], path, dict(type='LocalFileReader', working_dir=str(folder))).class_dom
    names, relation = domain.get_hierarchy_info()
    data = dataset(folder, with_hierarchy=True)
    assert data.metainfo['classes'] == tuple(names)
    assert np.array_equal(data.metainfo['RELATION_MATRIX'], relation)
