import json
import pickle

import cv2
import numpy as np
import pytest

from mmdet.datasets import OpenImagesChallengeDataset, OpenImagesDataset

HEADER = 'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'boxes.csv').write_text(
        f'{HEADER}\na,x,/m/2,1,0.25,0.5,0.1,0.2,0,1,1,0,0\nb,x,/m/1,1,0,1,0,1,0,0,0,0,0\n'
    )
    (tmp_path / 'labels.csv').write_text('/m/1,Animal\n/m/2,Cat\n/m/3,Car\n')
    tree = dict(LabelName='/m/0', Subcategory=[dict(LabelName='/m/1', Subcategory=[dict(LabelName='/m/2')])])
    (tmp_path / 'tree.json').write_text(
        json.dumps(tree | dict(Subcategory=[*tree['Subcategory'], dict(LabelName='/m/3')]))
    )
    (tmp_path / 'images.csv').write_text('ImageID,Source,LabelName,Confidence\na,x,/m/3,0\na,x,/m/2,1\n')
    (tmp_path / 'metas.pkl').write_bytes(
        pickle.dumps([dict(filename=f'x/{name}.jpg', ori_shape=(60, 80, 3)) for name in 'ab'])
    )
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.jpg'), np.zeros((60, 80, 3), np.uint8))
    return tmp_path


def arguments(folder, **changes):
    return (
        dict(
            data_root=str(folder),
            ann_file='boxes.csv',
            data_prefix=dict(img=''),
            label_file='labels.csv',
            hierarchy_file='tree.json',
            meta_file='metas.pkl',
        )
        | changes
    )


@pytest.mark.parametrize('meta_file', ['metas.pkl', ''])
def test_boxes_and_tree(folder, meta_file):
    dataset = OpenImagesDataset(**arguments(folder, meta_file=meta_file, image_level_ann_file='images.csv'))
    info = dataset.get_data_info(0)
    assert (info['height'], info['width']) == (60, 80)
    assert info['instances'][0]['bbox'] == [20, 6, 40, 12] and info['instances'][0]['bbox_label'] == 1
    assert info['instances'][0]['is_group_of'] and not info['instances'][0]['is_occluded']
    assert info['image_level_labels'].tolist() == [2, 1] and info['confidences'].tolist() == [0, 1]
    assert dataset.metainfo['classes'] == ['Animal', 'Cat', 'Car']
    assert dataset.metainfo['RELATION_MATRIX'].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


class Harm:
    def __reduce__(self):
        return print, ('harm',)


def test_sizes_that_would_run_code(folder, capsys):
    (folder / 'metas.pkl').write_bytes(pickle.dumps([Harm()]))
    with pytest.raises(ValueError, match=r'metas\.pkl.* it asks for builtins\.print'):
        OpenImagesDataset(**arguments(folder))
    assert 'harm' not in capsys.readouterr().out


def test_unknown_label(folder):
    (folder / 'labels.csv').write_text('/m/1,Animal\n')
    with pytest.raises(ValueError, match=r"boxes\.csv.*label '/m/2' is not in .*labels\.csv"):
        OpenImagesDataset(**arguments(folder))


def test_challenge(folder):
    (folder / 'boxes.txt').write_text('a.jpg\n0\n1\n2 0.25 0.1 0.5 0.2 1\nb.jpg\n1\n0\n')
    (folder / 'labels.csv').write_text('/m/2,Cat,2\n/m/1,Animal,1\n')
    np.save(folder / 'tree.npy', np.arange(9).reshape(3, 3))
    (folder / 'images.csv').write_text('ImageID,LabelName,Confidence\na,/m/2,1\na,/m/1,0\n')
    files = dict(hierarchy_file='tree.npy', image_level_ann_file='images.csv')
    dataset = OpenImagesChallengeDataset(**arguments(folder, ann_file='boxes.txt', **files))
    assert dataset.metainfo['classes'] == ['Animal', 'Cat']
    info = dataset.get_data_info(0)
    assert info['image_level_labels'].tolist() == [1, 0] and info['confidences'].tolist() == [1, 0]
    assert dataset.metainfo['RELATION_MATRIX'].tolist() == [[4, 5], [7, 8]]
    instance = dataset.get_data_info(0)['instances'][0]
    assert instance == dict(bbox=[20, 6, 40, 12], bbox_label=1, ignore_flag=0, is_group_of=True)
    assert dataset.get_data_info(1)['instances'] == []


def test_challenge_needs_its_text_file(folder):
    with pytest.raises(TypeError, match=r"text file .*'boxes\.csv'"):
        OpenImagesChallengeDataset(**arguments(folder))
