import json
import pickle

import numpy as np
import pytest
from mmengine.structures import InstanceData

from mmdet.datasets import (
    CityscapesDataset,
    CocoDataset,
    CocoPanopticDataset,
    CrowdHumanDataset,
    LVISDataset,
    LVISV1Dataset,
    V3DetDataset,
)
from mmdet.datasets.class_order import resolve_classes

THREE = dict(metainfo=dict(classes=('cat', 'dog', 'cow')))


def boxes_of(dataset):
    return {
        info['img_id']: [(x['bbox_label'], x['bbox'], x['ignore_flag']) for x in info['instances']]
        for info in map(dataset.get_data_info, range(len(dataset)))
    }


def test_samples_in_the_order_of_the_file(coco_file):
    dataset = CocoDataset(**coco_file(), **THREE)
    assert boxes_of(dataset) == {1: [(0, [10, 20, 40, 40], 0)], 2: [(1, [0, 0, 8, 8], 0)], 3: []}
    info = dataset.get_data_info(0)
    assert (info['height'], info['width'], info['seg_map_path'], info['sample_idx']) == (60, 80, None, 0)
    assert info['img_path'].endswith('1.jpg')
    assert dataset.get_cat_ids(1) == [1]
    assert dataset.cat2label == {1: 0, 2: 1, 3: 2}


@pytest.mark.parametrize(
    'ann, expected',
    [
        (dict(bbox=[1, 2, 3, 4]), (0, [1, 2, 4, 6], 0)),
        (dict(bbox=[5, 5, 1, 1]), (0, [5, 5, 6, 6], 0)),  # one pixel is a box
        (dict(bbox=[5, 5, 0.9, 9]), None),  # thinner than a pixel
        (dict(bbox=[5, 5, 4, 4], area=0), (0, [5, 5, 9, 9], 0)),
        (dict(bbox=[80, 5, 4, 4]), None),  # beyond the right border
        (dict(bbox=[-9, 5, 9, 4]), None),
        (dict(bbox=[-5, -5, 10, 10]), (0, [-5, -5, 5, 5], 0)),  # partly outside: kept as it is
        (dict(bbox=[1, 2, 3, 4], ignore=1), None),
        (dict(bbox=[1, 2, 3, 4], iscrowd=1), (0, [1, 2, 4, 6], 1)),
        (dict(bbox=[1, 2, 3, 4], category_id=3), (2, [1, 2, 4, 6], 0)),
    ],
)
def test_which_boxes_count(coco_file, ann, expected):
    dataset = CocoDataset(**coco_file({1: [dict(category_id=1) | ann]}), **THREE)
    assert boxes_of(dataset)[1] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    'filter_cfg, test_mode, kept',
    [
        (None, False, [1, 2, 3]),
        (dict(filter_empty_gt=True), False, [1, 2]),
        (dict(filter_empty_gt=True), True, [1, 2, 3]),
        (dict(filter_empty_gt=False, min_size=32), False, [1, 2, 3]),
    ],
)
def test_filters(coco_file, filter_cfg, test_mode, kept):
    dataset = CocoDataset(**coco_file(), **THREE, filter_cfg=filter_cfg, test_mode=test_mode)
    assert list(boxes_of(dataset)) == kept


def test_nothing_left_says_which_filter_took_how_many(coco_file):
    with pytest.raises(ValueError, match=r'none of the 3 images.*filter_empty_gt.* took 1; min_size=61.* took 2'):
        CocoDataset(**coco_file(), **THREE, filter_cfg=dict(filter_empty_gt=True, min_size=61))


def test_an_empty_file_says_so(coco_file):
    with pytest.raises(ValueError, match='lists no images'):
        CocoDataset(**coco_file(replaced=dict(images=[])), **THREE)


CATEGORIES = [dict(id=7, name='cat'), dict(id=3, name='dog'), dict(id=5, name='cow')]


@pytest.mark.parametrize(
    'classes, order, names, labels',
    [
        (('cat', 'dog', 'cow'), None, ('cat', 'dog', 'cow'), {7: 0, 3: 1, 5: 2}),
        (('cat', 'cow'), None, ('cat', 'cow'), {7: 0, 5: 1}),  # a part in the file's order
        (('cow', 'cat'), 'metainfo', ('cow', 'cat'), {7: 1, 5: 0}),
        (('cow', 'cat'), 'annotation', ('cat', 'cow'), {7: 0, 5: 1}),
        (('pig', 'dog'), 'metainfo', ('pig', 'dog'), {3: 1}),  # a class without boxes keeps its label
        (('pig', 'dog'), 'annotation', ('dog',), {3: 0}),
    ],
)
def test_class_order(classes, order, names, labels):
    assert resolve_classes(classes, CATEGORIES, order, 'f.json') == (names, labels)


@pytest.mark.parametrize(
    'classes, order, message',
    [
        (('cow', 'cat'), None, r"\* +0  cow +cat \(7\)[\s\S]*class_order='metainfo'"),
        (('cat', 'dig'), None, "'dig' is not in the file; nearest: dog"),
        (('pig',), 'metainfo', 'No class is in the file'),
        ('cat', None, r"is the string 'cat'; one class is written \('cat',\)"),
        (('cat',), 'file', "not 'file'"),
    ],
)
def test_class_order_that_is_in_doubt(classes, order, message):
    with pytest.raises(ValueError, match=message):
        resolve_classes(classes, CATEGORIES, order, 'f.json')


def test_categories_of_one_name_share_a_label_on_request():
    twice = [dict(id=0, name='fish'), dict(id=1, name='fish'), dict(id=2, name='jelly')]
    with pytest.raises(ValueError, match='named by more than one category: fish'):
        resolve_classes(('fish', 'jelly'), twice, None, 'f.json')
    assert resolve_classes(('fish', 'jelly'), twice, 'metainfo', 'f.json')[1] == {0: 0, 1: 0, 2: 1}


def test_metainfo_follows_the_order_of_the_file(coco_file):
    metainfo = dict(classes=('dog', 'cat'), palette=[(1, 1, 1), (2, 2, 2)])
    dataset = CocoDataset(**coco_file(), metainfo=metainfo, class_order='annotation')
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert dataset.metainfo['palette'] == [(2, 2, 2), (1, 1, 1)]
    assert dataset.cat_ids == [1, 2]


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(images=None), KeyError, r"ann.json: the file has no key 'images'"),
        (dict(annotations=None), KeyError, r"ann.json: the file has no key 'annotations'"),
        (dict(categories=[dict(id=1)]), KeyError, r"an entry of \"categories\" has no key 'name'"),
        (dict(images=[dict(id=1, file_name='no.jpg')]), KeyError, "has no key 'height', and its picture .* not exist"),
        (dict(annotations=[dict(id=1, image_id=1, category_id=1)]), KeyError, "has no key 'bbox'"),
        (
            dict(annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 9, 9])] * 2),
            ValueError,
            'not unique.* 1 is given twice',
        ),
    ],
)
def test_files_that_lack_something(coco_file, change, error, message):
    with pytest.raises(error, match=message):
        CocoDataset(**coco_file(replaced=change), **THREE)


def test_files_that_are_no_json(tmp_path):
    (tmp_path / 'a.json').write_text('{"images": [')
    with pytest.raises(ValueError, match=r'a.json. is not valid JSON'):
        CocoDataset(ann_file=str(tmp_path / 'a.json'))
    (tmp_path / 'b.json').write_text('[]')
    with pytest.raises(ValueError, match=r'b.json. holds a list'):
        CocoDataset(ann_file=str(tmp_path / 'b.json'))
    with pytest.raises(FileNotFoundError, match=r'c.json. does not exist'):
        CocoDataset(ann_file=str(tmp_path / 'c.json'))


def test_test_files_need_no_annotations(coco_file):
    assert len(CocoDataset(**coco_file(replaced=dict(annotations=None)), **THREE, test_mode=True)) == 3


def test_text_fields(coco_file):
    dataset = CocoDataset(**coco_file(), **THREE, return_classes=True, caption_prompt=dict(cat=dict(prefix='a ')))
    info = dataset.get_data_info(0)
    assert info['text'] == ('cat', 'dog', 'cow') and info['custom_entities']
    with pytest.raises(ValueError, match='needs return_classes'):
        CocoDataset(**coco_file(), **THREE, caption_prompt={})


def test_proposals_by_folder_and_name(coco_file, tmp_path):
    args = coco_file()
    keys = [f'{tmp_path.name}/{i}.jpg' for i in (1, 2, 3)]
    (tmp_path / 'p.json').write_text(json.dumps({key: dict(bboxes=[[0, 0, i, i]]) for i, key in enumerate(keys)}))
    dataset = CocoDataset(**args, **THREE, proposal_file='p.json')
    assert dataset.get_data_info(2)['proposals'] == dict(bboxes=[[0, 0, 2, 2]])
    (tmp_path / 'p.json').write_text('{}')
    with pytest.raises(KeyError, match='has no proposals for'):
        CocoDataset(**args, **THREE, proposal_file='p.json')


class Harm:
    def __reduce__(self):
        return print, ('harm',)


def test_pickled_proposals(coco_file, tmp_path, capsys):
    """What DumpProposals writes is read; anything that asks for more than arrays is not."""
    args = coco_file()
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    dumped = {f'{tmp_path.name}/{i}.jpg': InstanceData(bboxes=boxes * i, scores=boxes[:, 0]) for i in (1, 2, 3)}
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps(dumped))
    pipeline = [dict(type='LoadProposals', num_max_proposals=1)]
    sample = CocoDataset(**args, **THREE, proposal_file='p.pkl', pipeline=pipeline)[1]
    assert sample['proposals'].tolist() == [[0, 2, 4, 6]] and sample['proposals_scores'].tolist() == [0]
    for content, message in ((pickle.dumps({'a': Harm()}), 'builtins.print'), (b'no pickle', 'cannot be read')):
        (tmp_path / 'p.pkl').write_bytes(content)
        with pytest.raises(ValueError, match=f'p.pkl.*{message}'):
            CocoDataset(**args, **THREE, proposal_file='p.pkl')
    assert 'harm' not in capsys.readouterr().out


def test_cityscapes_counts_crowds_as_empty(coco_file):
    args = coco_file(
        {1: [dict(category_id=1, bbox=[1, 1, 9, 9], iscrowd=1)], 2: [dict(category_id=1, bbox=[1, 1, 9, 9])]},
        categories=CityscapesDataset.METAINFO['classes'],
    )
    dataset = CityscapesDataset(**args, filter_cfg=dict(filter_empty_gt=True))
    assert list(boxes_of(dataset)) == [2]


def test_lvis_names_files_and_classes(coco_file):
    images = [
        dict(id=5, width=80, height=60, coco_url='http://images.cocodataset.org/train2017/5.jpg'),
        dict(id=4, width=80, height=60, coco_url='http://images.cocodataset.org/val2017/4.jpg'),
    ]
    categories = [dict(id=9, name='zebra'), dict(id=2, name='ant')]
    annotations = [dict(id=1, image_id=5, category_id=9, bbox=[1, 1, 9, 9], area=81)]
    dataset = LVISV1Dataset(**coco_file(replaced=dict(images=images, annotations=annotations, categories=categories)))
    assert dataset.metainfo['classes'] == ('ant', 'zebra')
    assert [dataset.get_data_info(i)['img_path'].rsplit('/', 2)[1:] for i in (0, 1)] == [
        ['train2017', '5.jpg'],
        ['val2017', '4.jpg'],
    ]
    assert dataset.get_cat_ids(0) == [1]
    images = [dict(id=5, width=80, height=60, file_name='COCO_val2014_000000000005.jpg')]
    dataset = LVISDataset(**coco_file(replaced=dict(images=images, annotations=[], categories=categories)))
    assert dataset.get_data_info(0)['img_path'].endswith('/000000000005.jpg')


def test_v3det_reads_its_names(coco_file):
    dataset = V3DetDataset(**coco_file(categories=[dict(id=2, name='dog'), dict(id=1, name='cat')]))
    assert dataset.metainfo['classes'] == ('cat', 'dog') and dataset.get_cat_ids(1) == [1]


@pytest.mark.parametrize('sizes', [None, {'1': [600, 800]}])
def test_crowdhuman(coco_file, tmp_path, sizes):
    coco_file()  # for the pictures
    boxes = [
        dict(tag='person', fbox=[1, 2, 3, 4], extra=dict(box_id=0)),
        dict(tag='person', fbox=[1, 2, 3, 4], extra=dict(ignore=1)),
        dict(tag='mask', fbox=[5, 5, 5, 5], extra=dict(ignore=1)),
    ]
    (tmp_path / 'annotation_val.odgt').write_text(json.dumps(dict(ID='1', gtboxes=boxes)) + '\n')
    if sizes:
        (tmp_path / 'id_hw_val.json').write_text(json.dumps(sizes))
    args = dict(data_root=str(tmp_path), ann_file='annotation_val.odgt', data_prefix=dict(img=''))
    dataset = CrowdHumanDataset(**args)
    assert boxes_of(dataset) == {'1': [(0, [1, 2, 4, 6], 0), (-1, [1, 2, 4, 6], 1), (-1, [5, 5, 10, 10], 1)]}
    assert dataset.get_data_info(0)['height'] == (600 if sizes else 60)
    for wrong in (dict(tag='person', fbox=[1, 2, float('nan'), 4]), dict(tag='person'), dict(fbox=[1, 2, 3, 4]), 5):
        (tmp_path / 'annotation_val.odgt').write_text(json.dumps(dict(ID='1', gtboxes=[boxes[0], wrong])))
        with pytest.raises(ValueError, match=r'line 1, object 2 is .*four finite numbers as fbox'):
            CrowdHumanDataset(**args)
    (tmp_path / 'annotation_val.odgt').write_text('{"ID": "1"}\n')
    with pytest.raises(ValueError, match=r'line 1: no object with ID and gtboxes'):
        CrowdHumanDataset(**args)


def test_panoptic_segments(coco_file):
    segments = [
        dict(id=11, category_id=1, bbox=[1, 1, 9, 9], area=50, iscrowd=0),
        dict(id=12, category_id=2, bbox=[0, 0, 80, 60], area=900, iscrowd=0),
        dict(id=13, category_id=1, bbox=[3, 3, 9, 9], area=50, iscrowd=1),
    ]
    args = coco_file(
        categories=[dict(id=1, name='cat', isthing=1), dict(id=2, name='sky', isthing=0)],
        replaced=dict(annotations=[dict(image_id=2, file_name='two.png', segments_info=segments)]),
    )
    args['data_prefix'] = dict(img='', seg='png')
    dataset = CocoPanopticDataset(**args, metainfo=dict(classes=('cat', 'sky')), filter_cfg=dict(filter_empty_gt=True))
    assert len(dataset) == 1
    info = dataset.get_data_info(0)
    assert info['seg_map_path'].endswith('png/two.png')
    assert [x['ignore_flag'] for x in info['instances']] == [0, 1]
    assert info['segments_info'] == [
        dict(id=11, category=0, is_thing=True),
        dict(id=12, category=1, is_thing=False),
        dict(id=13, category=0, is_thing=True, iscrowd=1),
    ]
