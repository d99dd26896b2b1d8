"""Annotation files that cannot be read, in every format: one sentence with the file."""

import pytest

from mmdet.datasets import BaseDetDataset, CocoDataset
from mmdet.errors import UserError
from mmdet.registry import DATASETS

FORMATS = {
    **{name: {} for name in ('CocoDataset', 'LVISV1Dataset', 'CityscapesDataset', 'CocoPanopticDataset')},
    **{name: {} for name in ('Objects365V2Dataset', 'DeepFashionDataset', 'V3DetDataset', 'CrowdHumanDataset')},
    'WIDERFaceDataset': {},
    'VOCDataset': dict(data_prefix=dict(sub_data_root='VOC2007/')),
    'XMLDataset': dict(metainfo=dict(classes=('a',))),
    'OpenImagesDataset': dict(label_file='labels.csv', meta_file='sizes.pkl', hierarchy_file='tree.json'),
}
FILES = ('absent.json', 'folder', 'bytes', 'empty', 'empty/inside.json', 'http://127.0.0.1:9/a.json')


@pytest.mark.parametrize('ann_file', FILES)
@pytest.mark.parametrize('kind', FORMATS)
def test_files_that_cannot_be_read(kind, ann_file, tmp_path, default_scope):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'bytes').write_bytes(b'\xff\xfe\x00\x80 garbage')
    (tmp_path / 'empty').touch()
    with pytest.raises(UserError) as caught:
        DATASETS.build(dict(type=kind, data_root=str(tmp_path), ann_file=ann_file, **FORMATS[kind]))
    named = ann_file if kind != 'OpenImagesDataset' else 'labels.csv'  # which it reads first
    assert named in str(caught.value) and '\n' not in str(caught.value).strip()


class Foreign(BaseDetDataset):
    def load_data_list(self):
        return {}['nothing']


def test_faults_in_classes_of_others_stay_theirs():
    with pytest.raises(KeyError) as caught:
        Foreign(ann_file='a.json')
    assert not isinstance(caught.value, UserError)


def test_faults_of_ours_name_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(CocoDataset, 'load_data_list', lambda self: [][1])
    with pytest.raises(ValueError, match=r"annotation file .*a.json' is not what CocoDataset reads: list index"):
        CocoDataset(ann_file=str(tmp_path / 'a.json'))
