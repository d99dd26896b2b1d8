"""Pictures with sentences, of both kinds of files."""

import json

import pytest

from mmdet.datasets import CocoCaptionDataset

KARPATHY = [
    dict(image='val2014/COCO_val2014_000000000042.jpg', caption=['a shoe', 'a dog']),
    dict(image='val2014/COCO_val2014_000000000073.jpg', caption='two motorcycles'),
]
COCO = dict(
    images=[dict(id=42, file_name='COCO_val2014_000000000042.jpg'), dict(id=7, file_name='7.jpg')],
    annotations=[dict(image_id=42, id=1, caption='a shoe'), dict(image_id=42, id=2, caption='a dog')],
)


def dataset(tmp_path, content, **more):
    (tmp_path / 'captions.json').write_text(json.dumps(content))
    return CocoCaptionDataset(
        **{**dict(data_root=str(tmp_path), ann_file='captions.json', data_prefix=dict(img_path='coco')), **more}
    )


def test_karpathys_splits(tmp_path):
    data = dataset(tmp_path, KARPATHY)
    first, second = map(data.get_data_info, range(2))
    assert first['img_path'] == str(tmp_path / 'coco/val2014/COCO_val2014_000000000042.jpg')
    assert (first['img_id'], first['gt_caption']) == ('000000000042', ['a shoe', 'a dog'])
    assert (second['img_id'], second['gt_caption']) == ('000000000073', 'two motorcycles')
    assert data.raw_annotations().with_boxes is False
    with pytest.raises(ValueError, match='has sentences, no boxes'):
        data.get_cat_ids(0)


def test_the_file_of_coco(tmp_path):
    data = dataset(tmp_path, COCO, data_prefix=dict(img='val2014'))
    assert data.get_data_info(0)['gt_caption'] == ['a shoe', 'a dog']
    assert data.get_data_info(1)['gt_caption'] == [] and data.get_data_info(1)['img_id'] == '7'
    assert data.get_data_info(1)['img_path'] == str(tmp_path / 'val2014/7.jpg')


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (dict(a=1), 'is neither a list of dicts with image and caption nor a COCO file'),
        ([dict(picture='a.jpg')], "is not what CocoCaptionDataset reads: .*'image'"),
        (dict(COCO, annotations=[dict(image_id=8, caption='a')]), 'is not what CocoCaptionDataset reads: 8'),
    ],
)
def test_other_files_are_told(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        dataset(tmp_path, content)
