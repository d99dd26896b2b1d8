import json
import pickle

import numpy as np
import pytest

from mmdet.checks.dataset_doctor import read_split
from mmdet.datasets import DODDataset, Flickr30kDataset, MDETRStyleRefCocoDataset, RefCocoDataset
from mmdet.datasets.flickr30k import convert_phrase_ids
from mmdet.errors import UserError, UserValueError

CAPTION = 'A man with two dogs'


def captioned(images, annotations, categories=(dict(id=1, name='object'),)):
    for number, image in enumerate(images, 1):
        image.update(dict(id=number, file_name=f'{number}.jpg', height=60, width=80) | image)
    for number, annotation in enumerate(annotations, 1):
        annotation.update(dict(id=number, category_id=1, iscrowd=0, area=4) | annotation)
    return dict(images=images, annotations=annotations, categories=list(categories))


@pytest.fixture
def write(tmp_path):
    def _write(content, name='ann.json'):
        (tmp_path / name).write_text(json.dumps(content))
        return dict(data_root=str(tmp_path), ann_file=name, data_prefix=dict(img='pictures/'), return_classes=True)

    return _write


def test_expressions_of_mdetr(write):
    images = [dict(caption='the man'), dict(caption='a unicorn', file_name='1.jpg')]
    boxes = [
        dict(image_id=1, bbox=[1, 2, 10, 20]),
        dict(image_id=1, bbox=[3, 4, 5, 6]),
        dict(image_id=2, bbox=[0, 0, 0, 0], category_id=-1),
    ]
    data = MDETRStyleRefCocoDataset(**write(captioned(images, boxes)), test_mode=True)
    first, second = (data.get_data_info(i) for i in range(2))
    assert [instance['bbox'] for instance in first['instances']] == [[1, 2, 11, 22], [3, 4, 8, 10]]
    told = dict(text='the man', dataset_mode='VG', custom_entities=False, tokens_positive=-1, img_id=1)
    assert first | told == first
    assert second['instances'] == [dict(bbox=[0, 0, 0, 0], bbox_label=-1, ignore_flag=0)]
    assert first['img_path'].endswith('pictures/1.jpg') and second['img_path'] == first['img_path']
    assert not data.report.counts


@pytest.mark.parametrize(
    'ids, numbers',
    [([], []), ([7, 3, 7], [1, 0, 1]), (['b', 'a', 'c'], [1, 0, 2]), ([5], [0])],
)
def test_phrase_ids_are_numbered_in_their_order(ids, numbers):
    assert convert_phrase_ids(ids) == numbers


SPANS = [[[0, 5]], [[11, 19]]]


@pytest.mark.parametrize(
    'fields, numbers',
    [
        ([dict(phrase_ids=4), dict(phrase_ids=9), dict(phrase_ids=9)], [0, 1, 1]),
        ([dict(phrase_ids=[4, 9]), dict(phrase_ids=[9]), dict(phrase_ids=[])], [0, 1, 1]),
        ([dict(tokens_positive=SPANS[1]), dict(tokens_positive=SPANS[0])], [1, 0]),
    ],
)
def test_flickr30k(write, fields, numbers):
    images = [dict(caption=CAPTION, tokens_positive_eval=SPANS, id=5), dict(caption='', tokens_positive_eval=[], id=2)]
    boxes = [dict(image_id=5, bbox=[i, 2, 10, 20], **field) for i, field in enumerate(fields)]
    data = Flickr30kDataset(**write(captioned(images, boxes)), test_mode=True)
    empty, sample = (data.get_data_info(i) for i in range(2))  # by id
    assert (sample['img_id'], sample['text'], sample['phrases']) == (5, CAPTION, ['A man', 'two dogs'])
    assert sample['tokens_positive'] == SPANS
    assert sample['phrase_ids'] == numbers and len(sample['instances']) == len(numbers)
    assert (empty['phrases'], empty['phrase_ids'], empty['instances']) == ([], [], [])


def test_phrases_keep_their_boxes_in_training(write):
    images = [dict(caption=CAPTION, tokens_positive_eval=SPANS)]
    boxes = [dict(image_id=1, bbox=[1, 2, 0, 0], phrase_ids=1), dict(image_id=1, bbox=[1, 2, 9, 9], phrase_ids=2)]
    sample = Flickr30kDataset(**write(captioned(images, boxes))).get_data_info(0)
    assert len(sample['instances']) == len(sample['phrase_ids']) == 2


@pytest.mark.parametrize(
    'kind, content, words',
    [
        (MDETRStyleRefCocoDataset, captioned([dict(id=1)], []), "no key 'caption'"),
        (MDETRStyleRefCocoDataset, captioned([dict(caption=7)], []), 'image 1 has the caption 7, not text'),
        (
            MDETRStyleRefCocoDataset,
            captioned([dict(caption='a')], [dict(image_id=1, bbox=[1, 2, 3])]),
            'annotation 1 of',
        ),
        (Flickr30kDataset, captioned([dict(caption='a')], []), "no key 'tokens_positive_eval'"),
        (
            Flickr30kDataset,
            captioned([dict(caption='a', tokens_positive_eval=[[[0, 2]]])], []),
            'image 1: tokens_positive has [0, 2]',
        ),
        (
            Flickr30kDataset,
            captioned([dict(caption='a', tokens_positive_eval=[])], [dict(image_id=1, bbox=[1, 2, 3, 4])]),
            "annotation 1 has no key 'phrase_ids'",
        ),
    ],
)
def test_captions_that_cannot_be_read(write, kind, content, words):
    with pytest.raises(UserError) as caught:
        kind(**write(content))
    assert words in str(caught.value) and 'ann.json' in str(caught.value)


def test_the_doctor_reads_captions(write):
    content = captioned([dict(caption=CAPTION)], [dict(image_id=1, bbox=[1, 2, 10, 20])])
    split = read_split(dict(type='MDETRStyleRefCocoDataset', **write(content)), 'val', 'val_dataloader.dataset')
    assert split.counts() == {'object': 1} and not split.problems


# ----------------------------------------------------------------------------------------------------------------------
REFS = [
    dict(ref_id=1, ann_id=11, split='train', sentences=[dict(raw='The Man'), dict(raw='left man')]),
    dict(ref_id=2, ann_id=12, split='train', sentences=[dict(raw='dog')]),
    dict(ref_id=3, ann_id=13, split='val', sentences=[dict(raw='cat')]),
]
SQUARE = [[1, 1, 9, 1, 9, 9]]


@pytest.fixture
def refcoco(tmp_path):
    instances = dict(
        images=[dict(id=7, file_name='7.jpg', height=60, width=80), dict(id=8, file_name='8.jpg')],
        annotations=[
            dict(id=own, image_id=image, segmentation=SQUARE, bbox=[1, 1, 8, 8])
            for own, image in ((11, 7), (12, 7), (13, 8))
        ],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(instances))

    def build(refs=REFS, **kwargs):
        (tmp_path / 'refs.p').write_bytes(pickle.dumps(refs))
        return RefCocoDataset(
            data_root=str(tmp_path),
            ann_file='instances.json',
            split_file='refs.p',
            data_prefix=dict(img_path='train2014/'),
            **kwargs,
        )

    return build


@pytest.mark.parametrize(
    'mode, texts',
    [
        ('select_first', [['the man', 'dog']]),
        ('concat', [['the manleft man', 'dog']]),
        ('original', [['the man', 'left man', 'dog']]),
        ('random', [['the man', 'dog'], ['left man', 'dog']]),
    ],
)
def test_refcoco(refcoco, mode, texts):
    data = refcoco(text_mode=mode)
    sample = data.get_data_info(0)
    assert len(data) == 1 and sample['text'] in texts
    assert [instance['bbox_label'] for instance in sample['instances']] == list(range(len(sample['text'])))
    assert all(instance['mask'] == SQUARE and instance['bbox'] == [1, 1, 9, 9] for instance in sample['instances'])
    assert sample['img_path'].endswith('train2014/7.jpg')
    assert refcoco(split='val').get_data_info(0)['text'] == ['cat']


def test_each_expression_keeps_its_object(refcoco, tmp_path):
    content = json.loads((tmp_path / 'instances.json').read_text())
    content['annotations'][0]['bbox'] = [1, 1, 0, 8]
    data = refcoco(text_mode='select_first', lazy_init=True)
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    assert len(data.get_data_info(0)['instances']) == len(data.get_data_info(0)['text']) == 2


@pytest.mark.parametrize(
    'refs, kwargs, words',
    [
        (REFS, dict(split='testA'), "no expressions of the split 'testA'; it has train, val"),
        (REFS, dict(text_mode='all'), 'text_mode must be one of'),
        ([REFS[0] | dict(ann_id=99)], {}, 'expression 1 is of annotation 99'),
        ([dict(ref_id=1)], {}, "expression 1 has no key 'ann_id'"),
        ([REFS[0] | dict(sentences=[7])], {}, 'a sentence of expression 1'),
    ],
)
def test_expressions_that_cannot_be_read(refcoco, refs, kwargs, words):
    with pytest.raises(UserError) as caught:
        refcoco(refs, **kwargs)
    assert words in str(caught.value)


def test_a_split_file_that_is_no_pickle(refcoco, tmp_path):
    data = refcoco(lazy_init=True)
    (tmp_path / 'refs.p').write_text('no pickle')
    with pytest.raises(UserValueError, match='no pickle of expressions'):
        data.full_init()


# ----------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def d3(write, tmp_path):
    sentences = {own: dict(id=own, raw_sent=text) for own, text in ((1, 'a red dog'), (2, 'no hat'), (3, 'a tree'))}
    images = {5: dict(file_name='5.jpg', height=60, width=80, group_id=0, anno_id=[1])}
    groups = {0: dict(inner_sent_id=[2, 1], img_id=[5])}
    (tmp_path / 'd3_pkl').mkdir()
    for name, table in dict(sentences=sentences, images=images, groups=groups).items():
        (tmp_path / 'd3_pkl' / f'{name}.pkl').write_bytes(pickle.dumps(table))
    content = captioned(
        [dict(id=5, file_name='5.jpg')],
        [dict(image_id=5, bbox=np.array([1, 2, 10, 20]).tolist(), category_id=2)],
        [dict(id=own, name=entry['raw_sent']) for own, entry in sentences.items()],
    )
    return dict(write(content), data_prefix=dict(img='pictures/', anno='d3_pkl'), test_mode=True)


def test_descriptions_of_d3(d3):
    data = DODDataset(**d3)
    sample = data.get_data_info(0)
    assert data.metainfo['classes'] == ('a red dog', 'no hat', 'a tree')
    assert sample['sent_ids'] == [1, 2] and sample['text'] == ['a red dog', 'no hat'] and sample['custom_entities']
    assert [(each['bbox_label'], each['bbox']) for each in sample['instances']] == [(1, [1, 2, 11, 22])]
    assert sample['img_path'].endswith('pictures/5.jpg')


def test_descriptions_that_cannot_be_read(d3, tmp_path):
    with pytest.raises(UserError, match='img and anno'):
        DODDataset(**d3 | dict(data_prefix=dict(img='pictures/')))
    (tmp_path / 'd3_pkl' / 'groups.pkl').write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match=r'image 5 of images\.pkl'):
        DODDataset(**d3)
    (tmp_path / 'd3_pkl' / 'sentences.pkl').unlink()
    with pytest.raises(UserError, match=r'sentences.pkl.* does not exist'):
        DODDataset(**d3)
