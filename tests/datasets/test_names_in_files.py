"""Files beside the annotations: class names of V3Det, sizes of CrowdHuman's pictures."""

import json

import pytest

from mmdet.datasets import CrowdHumanDataset, V3DetDataset


@pytest.fixture
def v3det(tmp_path):
    content = dict(
        images=[dict(id=1, file_name='1.jpg', height=4, width=4)],
        annotations=[dict(id=1, image_id=1, category_id=2, bbox=[0, 0, 2, 2], area=4, iscrowd=0)],
        categories=[dict(id=1, name='ant'), dict(id=2, name='bee')],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    return tmp_path


def test_classes_of_a_label_file(v3det):
    arguments = dict(ann_file='truth.json', data_root=str(v3det), data_prefix=dict(img=''), pipeline=[])
    assert V3DetDataset(**arguments).metainfo['classes'] == ('ant', 'bee')
    (v3det / 'names.txt').write_text('bee\nant\n')
    assert V3DetDataset(**arguments, label_file='names.txt', class_order='metainfo').metainfo['classes'] == (
        'bee',
        'ant',
    )


def test_sizes_of_another_file(tmp_path):
    line = dict(ID='a', gtboxes=[dict(tag='person', fbox=[1, 2, 3, 4])])
    (tmp_path / 'annotation_train.odgt').write_text(json.dumps(line))
    (tmp_path / 'sizes.json').write_text(json.dumps(dict(a=[30, 40])))
    dataset = CrowdHumanDataset(
        data_root=str(tmp_path),
        ann_file='annotation_train.odgt',
        extra_ann_file=str(tmp_path / 'sizes.json'),
        pipeline=[],
    )
    assert (dataset[0]['height'], dataset[0]['width']) == (30, 40)
