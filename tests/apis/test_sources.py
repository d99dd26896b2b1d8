import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from mmdet.apis import Detector, Picture, Result, pictures_of, tiles_of, write_predictions
from mmdet.apis.large_image import merge_tiles
from mmdet.cli.main import main
from mmdet.errors import UserError, UserFileError, UserTypeError, UserValueError
from mmdet.structures import DetDataSample


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a broken one, a video of three frames, and a text."""
    import cv2

    root = tmp_path / 'in'
    (root / 'inner').mkdir(parents=True)
    Image.new('RGB', (40, 30), (9, 8, 7)).save(root / 'b.png')
    Image.new('L', (20, 30), 50).save(root / 'inner' / 'Über.jpg')
    (root / 'broken.jpg').write_bytes(b'')
    (root / 'notes.md').write_text('x')
    writer = cv2.VideoWriter(str(root / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (32, 24))
    for value in (0, 100, 200):
        writer.write(np.full((24, 32, 3), value, np.uint8))
    writer.release()
    return root


def names(source):
    return [picture.name for picture in pictures_of(source)]


def test_a_folder_is_walked_to_its_ends(folder):
    assert names(folder) == ['b.png', 'broken.jpg', 'v_000000', 'v_000001', 'v_000002', 'inner/Über.jpg']


@pytest.mark.parametrize(
    'make, found',
    [
        (lambda root: str(root / '*.png'), ['b.png']),
        (lambda root: str(root / '**' / '*.jpg'), ['broken.jpg', 'Über.jpg']),
        (lambda root: [root / 'b.png', str(root / 'inner')], ['b.png', 'Über.jpg']),
        (lambda root: (path for path in [root / 'b.png']), ['b.png']),
        (lambda root: root / 'v.avi', ['v_000000', 'v_000001', 'v_000002']),
        (lambda root: Image.open(root / 'b.png'), ['00000000']),
        (lambda root: np.zeros((3, 8, 9, 3), np.uint8), ['00000000', '00000001', '00000002']),
        (lambda root: torch.zeros(2, 3, 8, 9), ['00000000', '00000001']),
        (lambda root: 'https://a.example/x/y.jpg?z=1', ['y.jpg']),
    ],
)
def test_sources(folder, make, found):
    assert names(make(folder)) == found


def test_a_list_of_paths(folder):
    (folder / 'list.txt').write_text('b.png\n\ninner/Über.jpg\n', encoding='utf-8')
    assert names(folder / 'list.txt') == ['b.png', 'Über.jpg']


def test_nothing_is_read_before_it_is_asked_for(folder):
    found = pictures_of([folder / 'b.png', folder / 'nowhere.png'])
    assert next(found).name == 'b.png'
    with pytest.raises(UserFileError, match='nowhere'):
        next(found)


@pytest.mark.parametrize(
    'source, error, words',
    [
        ('nowhere/*.png', UserFileError, 'nothing fits the pattern'),
        ('nowhere.png', UserFileError, 'there is no file'),
        (True, UserTypeError, 'not a bool'),
        (3.5, UserTypeError, 'float is no source'),
        (np.zeros(3), UserValueError, 'is no picture'),
        (987, UserFileError, 'camera 987 cannot be opened'),
    ],
)
def test_what_is_no_source(source, error, words):
    with pytest.raises(error, match=words):
        list(pictures_of(source))


def test_a_video_that_is_none(folder):
    (folder / 'broken.mp4').write_bytes(b'nothing')
    with pytest.raises(UserError, match='cannot be read as a video'):
        list(pictures_of(folder / 'broken.mp4'))
    (picture,) = [p for p in pictures_of(folder) if p.fault]
    assert picture.name == 'broken'


# --------------------------------------------------------------------------------------------------------------------
def sample_of(boxes, scores, labels, size=(40, 30), masks=None):
    found = DetDataSample(metainfo=dict(ori_shape=size[::-1], img_shape=size[::-1]))
    instances = dict(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    if masks is not None:
        instances['masks'] = torch.as_tensor(masks)
    found.pred_instances = InstanceData(**instances)
    return found


@pytest.fixture
def result(folder):
    picture = Picture(str(folder / 'b.png'), str(folder / 'b.png'), 'b.png')
    masks = np.zeros((2, 30, 40), bool)
    masks[0, 5:9, 4:8] = True
    sample = sample_of([[4, 5, 8, 9], [1, 1, 3, 3]], [0.9, 0.2], [1, 0], masks=masks)
    return Result(picture, sample, ('cat', 'dog'), 0.5, lambda result: np.zeros((30, 40, 3), np.uint8))


def test_values_of_a_result(result, tmp_path):
    assert result.names == ['dog'] and len(result) == 1 and result.size == (40, 30)
    assert result.boxes.tolist() == [[4, 5, 8, 9]] and result.masks.sum() == 16
    content = json.loads(result.to_json())
    assert content['boxes'] == [[4, 5, 8, 9]] and content['names'] == ['dog'] and 'counts' in content['masks'][0]
    (entry,) = result.to_coco(7)
    assert entry['image_id'] == 7 and entry['category_id'] == 2 and entry['bbox'] == [4, 5, 4, 4]
    assert 'b.png (40x30): 1 dog' in repr(result) and '<img' in result._repr_html_()
    assert (tmp_path / 'x.jpg').samefile(result.save(tmp_path / 'x.jpg'))
    assert result.save(tmp_path).endswith('b.jpg')


def test_supervision(result):
    supervision = pytest.importorskip('supervision')
    found = result.to_supervision()
    assert (
        isinstance(found, supervision.Detections) and found.class_id.tolist() == [1] and found.mask.shape == (1, 30, 40)
    )
    assert found.data['class_name'].tolist() == ['dog']


@pytest.mark.parametrize('package, method', [('pandas', 'to_df'), ('fiftyone', 'to_fiftyone')])
def test_packages_that_are_not_there_are_named(result, monkeypatch, package, method):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f'this needs {package}: pip install {package}'):
        getattr(result, method)()


def test_fiftyone_gets_parts_of_the_sides(result, monkeypatch):
    import sys
    from types import SimpleNamespace

    package = SimpleNamespace(Detection=lambda **k: k, Detections=lambda detections: detections)
    monkeypatch.setitem(sys.modules, 'fiftyone', package)
    (found,) = result.to_fiftyone()
    assert found['bounding_box'] == [0.1, pytest.approx(5 / 30), 0.1, pytest.approx(4 / 30)]
    assert found['mask'].shape == (4, 4) and found['mask'].all() and found['label'] == 'dog'


@pytest.mark.parametrize('format', ['coco', 'yolo', 'cvat', 'label-studio', 'labelme'])
def test_predictions_as_annotations(result, tmp_path, format):
    write_predictions([result.to_raw()], ('cat', 'dog'), tmp_path / 'out', format)
    files = [path for path in (tmp_path / 'out').rglob('*.*') if path.suffix in ('.json', '.xml', '.txt', '.yaml')]
    texts = ''.join(path.read_text() for path in files)
    assert 'dog' in texts


# --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    'width, height, size, overlap, found',
    [
        (100, 80, 100, 0.25, [(0, 0, 100, 80)]),
        (100, 50, (50, 50), 0.0, [(0, 0, 50, 50), (50, 0, 100, 50)]),
        (90, 40, (40, 40), 0.25, [(0, 0, 40, 40), (25, 0, 65, 40), (50, 0, 90, 40)]),
    ],
)
def test_tiles(width, height, size, overlap, found):
    assert tiles_of(width, height, size, overlap) == found


def test_objects_across_borders_are_one():
    """A wide object that no tile sees whole, one seen by two tiles, and two that touch."""
    windows = [(0, 0, 60, 40), (40, 0, 100, 40)]
    left = sample_of([[10, 10, 60, 20], [45, 25, 55, 35], [30, 0, 50, 8]], [0.9, 0.5, 0.7], [0, 0, 1], (60, 40))
    right = sample_of([[0, 10, 50, 20], [5, 25, 15, 35], [11, 0, 30, 8]], [0.8, 0.6, 0.7], [0, 0, 1], (60, 40))
    merged = merge_tiles([left, right], windows, (40, 100)).pred_instances
    found = {tuple(box): round(score, 2) for box, score in zip(merged.bboxes.tolist(), merged.scores.tolist())}
    assert found == {
        (10, 10, 90, 20): 0.9,
        (45, 25, 55, 35): 0.6,
        (30, 0, 50, 8): 0.7,
        (51, 0, 70, 8): 0.7,
    }


def test_nothing_found_in_any_tile():
    empty = sample_of([], [], [], (60, 40))
    assert len(merge_tiles([empty, empty.clone()], [(0, 0, 60, 40), (40, 0, 100, 40)], (40, 100)).pred_instances) == 0


def test_the_command_lists_what_it_skipped(folder, tmp_path, capsys, default_scope):
    out = tmp_path / 'out'
    arguments = ['--model', 'retinanet_r18', '--scratch', '--device', 'cpu', '--out', str(out), '--slice', '64']
    assert main(['predict', str(folder), *arguments, '--save-as', 'coco', '--threshold', '0.9']) == 0
    shown = capsys.readouterr()
    assert '5 pictures, predictions in' in shown.out and 'skipped: ' in shown.err and 'broken.jpg' in shown.err
    assert len((out / 'predictions.json').read_text().splitlines()) == 5
    assert len(list((out / 'pictures').rglob('*.*'))) == 5
    assert main(['predict', str(folder / 'broken.jpg'), *arguments[:-4], '--out', str(tmp_path / 'o2')]) == 1


def test_frames_become_pictures_to_annotate(folder, tmp_path, default_scope):
    out = tmp_path / 'out'
    arguments = ['--model', 'retinanet_r18', '--scratch', '--device', 'cpu', '--out', str(out), '--no-pictures']
    assert main(['predict', str(folder / 'v.avi'), *arguments, '--save-as', 'yolo']) == 0
    pictures = sorted((out / 'yolo' / 'images' / 'all').iterdir())
    assert [path.name for path in pictures] == ['v.avi_000000.jpg', 'v.avi_000001.jpg', 'v.avi_000002.jpg']
    assert np.asarray(Image.open(pictures[1])).mean() == pytest.approx(100, abs=3)


def test_names_that_are_no_text(folder, tmp_path, capsys, default_scope):
    """A line break and a control character in a name, which lists and terminals cannot have."""
    odd = tmp_path / 'odd'
    odd.mkdir()
    (folder / 'b.png').rename(odd / 'two\nlines\x1b.png')
    (odd / 'bro\nken.png').write_bytes(b'x')
    arguments = ['--model', 'retinanet_r18', '--scratch', '--device', 'cpu', '--no-pictures', '--threshold', '0.0']
    for form in ('cvat', 'yolo'):
        assert main(['predict', str(odd), *arguments, '--out', str(tmp_path / form), '--save-as', form]) == 0
    shown = capsys.readouterr()
    assert 'two\\nlines\\x1b.png (40x30)' in shown.out and 'bro\\nken.png: ' in shown.err
    ElementTree.parse(tmp_path / 'cvat' / 'cvat' / 'annotations.xml')
    assert (tmp_path / 'yolo' / 'yolo' / 'images' / 'all' / 'two_lines_.png').is_file()


def test_stream_and_list_agree(folder, default_scope):
    detector = Detector('retinanet_r18', pretrained=False, device='cpu')
    listed = detector.predict(folder, threshold=0.0, batch=2)
    streamed = detector.predict(folder, threshold=0.0, batch=2, stream=True)
    assert not isinstance(streamed, list)
    assert [result.boxes.tolist() for result in streamed] == [result.boxes.tolist() for result in listed]
    assert [name for name, _ in listed.skipped] == [str(folder / 'broken.jpg')]
    with pytest.raises(UserValueError, match='threshold must lie'):
        detector.predict(folder, threshold=3)


def test_a_stream_keeps_nothing(monkeypatch):
    import gc

    network = type('Network', (), {'dataset_meta': {'classes': ('x',)}})()
    monkeypatch.setattr(Detector, 'network', network)
    monkeypatch.setattr(Detector, '_load', lambda self, content: {'content': content})
    monkeypatch.setattr(Detector, '_forward', lambda self, batch: [sample_of([[1, 1, 5, 5]], [0.9], [0])] * len(batch))
    detector = Detector('retinanet_r18', pretrained=False)
    pictures = (np.zeros((30, 40, 3), np.uint8) for _ in range(40))
    for count, _ in enumerate(detector.predict(pictures, batch=4, stream=True)):
        if count % 10 == 9:
            assert sum(isinstance(each, Result) for each in gc.get_objects()) <= 2
    assert count == 39


def test_a_detector_is_saved_and_pushed(folder, tmp_path, monkeypatch, default_scope):
    huggingface_hub = pytest.importorskip('huggingface_hub')
    detector = Detector('retinanet_r18', pretrained=False, device='cpu')
    saved = detector.save_pretrained(tmp_path / 'saved')
    again = Detector(saved, device='cpu')
    assert again.classes == detector.classes
    found, other = (each.predict(folder / 'b.png', threshold=0.0)[0] for each in (detector, again))
    assert found.boxes.tolist() == other.boxes.tolist()
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(token)

        def create_repo(self, repo, private, exist_ok):
            calls.append((repo, private, exist_ok))

        def upload_folder(self, repo_id, folder_path):
            from pathlib import Path

            calls.append((sorted(path.name for path in Path(folder_path).iterdir()), repo_id))
            assert "Detector('hf://me/mine')" in Path(folder_path, 'README.md').read_text()

    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    assert detector.push_to_hub('me/mine', token='t') == 'hf://me/mine'
    assert calls == ['t', ('me/mine', False, True), (['README.md', 'config.json', 'model.safetensors'], 'me/mine')]
    with pytest.raises(UserValueError, match='owner/name'):
        detector.push_to_hub('mine')
