import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from test_detection_on_pictures import CLASSES, CONFIG

from mmdet.apis import DetInferencer
from mmdet.apis.auto_label import find_pictures, label_folder
from mmdet.datasets import CocoDataset, ODVGDataset
from mmdet.errors import UserError

TOOL = Path(__file__).parents[2] / 'tools' / 'auto_label.py'


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    (folder / 'sub').mkdir()
    for index, name in enumerate(('a.png', 'sub/a.png', 'sub/<b>.jpg')):
        picture = np.random.RandomState(index).randint(0, 255, (48, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / name), picture)
    (folder / 'broken.jpg').write_bytes(b'no picture')
    (folder / 'notes.txt').touch()
    return folder


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    (folder / 'config.py').write_text(CONFIG)
    torch.manual_seed(0)
    state = DetInferencer(str(folder / 'config.py'), device='cpu', show_progress=False).model.state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=CLASSES))), folder / 'weights.pth')
    return folder


@pytest.fixture
def inferencer(files):
    return DetInferencer(str(files / 'config.py'), str(files / 'weights.pth'), device='cpu', show_progress=False)


def content(folder, name):
    return json.loads((folder / name).read_text())


def test_labels_of_a_folder(inferencer, pictures, tmp_path):
    labels = label_folder(inferencer, pictures, tmp_path, score_thr=0.0, nms_thr=None, batch_size=2)
    assert list(labels.skipped) == [str(pictures / 'broken.jpg')]
    coco = content(tmp_path, 'coco.json')
    assert [image['file_name'] for image in coco['images']] == ['a.png', 'sub/<b>.jpg', 'sub/a.png']
    assert [category['name'] for category in coco['categories']] == list(CLASSES)
    assert content(tmp_path, 'label_map.json') == {str(i): name for i, name in enumerate(CLASSES)}
    assert labels.counts() and sum(labels.counts().values()) == len(coco['annotations']) == 15  # max_per_img is 5

    predictions = inferencer(str(pictures / 'a.png'))['predictions'][0]
    own = [entry for entry in coco['annotations'] if entry['image_id'] == 1]
    assert [entry['category_id'] - 1 for entry in own] == predictions['labels']
    assert [entry['score'] for entry in own] == pytest.approx(predictions['scores'], abs=1e-4)
    boxes = np.array([entry['bbox'] for entry in own])
    boxes[:, 2:] += boxes[:, :2]
    assert boxes == pytest.approx(np.array(predictions['bboxes']), abs=0.02)

    kwargs = dict(data_root=str(tmp_path), data_prefix=dict(img=str(pictures)))
    as_coco = CocoDataset(ann_file='coco.json', metainfo=dict(classes=CLASSES), test_mode=True, **kwargs)
    as_odvg = ODVGDataset(ann_file='odvg.json', label_map_file='label_map.json', return_classes=True, **kwargs)
    assert len(as_coco) == len(as_odvg) == 3
    assert [as_coco.get_data_info(i)['img_path'] for i in range(3)] == [
        as_odvg.get_data_info(i)['img_path'] for i in range(3)
    ]
    page = (tmp_path / 'index.html').read_text()
    assert 'broken.jpg' in page and '<b>' not in page and page.count('<figure ') == 3
    for drawing in labels.drawings:
        assert cv2.imread(str(tmp_path / drawing)).shape == (48, 64, 3) and drawing in page


def test_thresholds_by_class(inferencer, pictures, tmp_path):
    whole = label_folder(inferencer, pictures, tmp_path / 'whole', score_thr=0.0, nms_thr=None, draw=False)
    assert not (tmp_path / 'whole' / 'index.html').exists()
    name = next(iter(whole.counts()))
    only = label_folder(
        inferencer, pictures, tmp_path / 'one', score_thr=1.0, class_thresholds={name: 0.0}, nms_thr=None
    )
    assert only.counts() == {name: whole.counts()[name]}
    assert f'<td>{name}<td class=n>0<td' in (tmp_path / 'one' / 'index.html').read_text()
    nothing = label_folder(inferencer, pictures, tmp_path / 'none', score_thr=1.0, draw=False)
    assert not nothing.annotations and len(nothing.lines) == 3
    fewer = label_folder(inferencer, pictures, tmp_path / 'nms', score_thr=0.0, nms_thr=0.0, draw=False)
    assert len(fewer.annotations) <= len(whole.annotations)
    with pytest.raises(UserError, match=r"'cta', which is no class of the model\. Did you mean 'cat'"):
        label_folder(inferencer, pictures, tmp_path / 'x', class_thresholds={'cta': 0.1})


def test_folders_without_pictures(inferencer, tmp_path):
    with pytest.raises(UserError, match='there is no folder'):
        find_pictures(tmp_path / 'absent')
    with pytest.raises(UserError, match='holds no picture'):
        label_folder(inferencer, tmp_path, tmp_path / 'out')
    (tmp_path / 'a.jpg').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'no picture of .* can be read: .*a\.jpg'):
        label_folder(inferencer, tmp_path, tmp_path / 'out')
    with pytest.raises(UserError, match='RetinaNet reads no texts'):
        label_folder(inferencer, tmp_path, tmp_path / 'out', texts='cat .')


def test_masks_become_segmentations(inferencer, pictures, tmp_path, monkeypatch):
    given = type(inferencer).__call__

    def with_masks(self, *args, **kwargs):
        found = given(self, *args, **kwargs)
        for sample in found['predictions']:
            masks = torch.zeros(len(sample.pred_instances), 48, 64, dtype=torch.bool)
            masks[:, 2:5, 3:9] = True
            sample.pred_instances.masks = masks
        return found

    monkeypatch.setattr(type(inferencer), '__call__', with_masks)
    label_folder(inferencer, pictures, tmp_path, score_thr=0.0, draw=False)
    entry = content(tmp_path, 'coco.json')['annotations'][0]
    assert entry['segmentation']['size'] == [48, 64] and entry['area'] == 18


def test_detectors_that_read(inferencer, pictures, tmp_path, monkeypatch):
    """What is found has names; labels of COCO and ODVG are those of the texts."""

    def reading(self, inputs, texts=None, custom_entities=None, **kwargs):
        self.asked = texts, custom_entities
        return dict(predictions=[self.found(path) for path in inputs])

    def found(path):
        from mmdet.structures import DetDataSample

        cv2.imread(path).shape  # noqa: B018 (as a loader that cannot read a picture)
        sample = DetDataSample(metainfo=dict(img_path=path, ori_shape=(48, 64), text='dog . traffic light .'))
        boxes = torch.tensor([[1.0, 1, 9, 9], [20, 20, 30, 30], [40, 2, 60, 40]])
        sample.pred_instances = InstanceData(
            bboxes=boxes, scores=torch.tensor([0.9, 0.6, 0.4]), labels=torch.tensor([1, 0, 1])
        )
        sample.pred_instances.label_names = ['traffic light', 'dog', 'traffic light']
        return sample

    def broken(path):
        if 'broken' in path:
            raise OSError(f'{path} is no picture')
        return found(path)

    monkeypatch.setattr(type(inferencer), '__call__', reading)
    inferencer.found = broken
    inferencer.model.language_model = torch.nn.Identity()
    inferencer.model.get_tokens_positive_and_prompts = lambda *asked: None
    with pytest.raises(UserError, match='give texts'):
        label_folder(inferencer, pictures, tmp_path, texts=' . ')
    labels = label_folder(
        inferencer, pictures, tmp_path, texts='dog . traffic light .', class_thresholds={'traffic light': 0.5}
    )
    assert inferencer.asked == ('dog . traffic light .', True)
    assert labels.names == ['dog', 'traffic light'] and labels.counts() == {'dog': 3, 'traffic light': 3}
    line = json.loads((tmp_path / 'odvg.json').read_text().splitlines()[0])
    assert [(entry['label'], entry['category']) for entry in line['detection']['instances']] == [
        (1, 'traffic light'),
        (0, 'dog'),
    ]
    monkeypatch.setitem(sys.modules, 'nltk', None)
    said = dict(texts='dog and traffic light with a lamp', custom_entities=False, draw=False)
    sentence = label_folder(inferencer, pictures, tmp_path, **said)
    assert sentence.names == ['dog', 'traffic light', 'a lamp'] and set(sentence.counts()) == {'dog', 'traffic light'}
    sentence = label_folder(inferencer, pictures, tmp_path, class_thresholds={'dog': 0.95}, score_thr=0.7, **said)
    assert sentence.counts() == {'traffic light': 3}
    with pytest.raises(UserError, match=r"'lmp', which is no class .* mean 'a lamp'"):
        label_folder(inferencer, pictures, tmp_path, class_thresholds={'lmp': 0.95}, **said)


def test_the_command(files, pictures, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('auto_label', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    given = [str(pictures), str(files / 'config.py'), '--weights', str(files / 'weights.pth'), '--device', 'cpu']
    tool.main([*given, '--out', str(tmp_path), '--score-thr', '1', '--class-thr', 'cat=0', 'dog = 0.0'])
    said = capsys.readouterr()
    assert (
        f'boxes in {tmp_path}' in said.out
        and ' cat\n' in said.out
        and ' dog\n' in said.out
        and 'left out: ' in said.err
        and 'broken.jpg' in said.err
    )
    assert {entry['category_id'] for entry in content(tmp_path, 'coco.json')['annotations']} <= {1, 2}
    with pytest.raises(SystemExit):
        tool.main([*given, '--class-thr', 'cat'])
    assert 'NAME=SCORE' in capsys.readouterr().err
    with pytest.raises(UserError, match='give one of them'):
        tool.main([*given, '--class-thr', 'cat=1', '--class-thresholds', 'a.json'])
