import json
import runpy
from pathlib import Path

import pytest

from mmdet.apis.auto_label import label_folder
from mmdet.cli.main import main
from mmdet.datasets.formats import read_data
from mmdet.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_folder_is_labelled_by_texts(inferencer, files, tmp_path):
    folder = next(path for path in files.rglob('*') if path.suffix in ('.png', '.jpg')).parent
    labels = label_folder(inferencer, folder, tmp_path, texts='dog . cat .', score_thr=0.0)
    assert labels.names == ['dog', 'cat'] and labels.annotations
    lines = [json.loads(line) for line in (tmp_path / 'odvg.json').read_text().splitlines()]
    found = {(entry['label'], entry['category']) for line in lines for entry in line['detection']['instances']}
    assert found <= {(0, 'dog'), (1, 'cat')}
    texts = 'traffic_light. cat 1.5 l (big). cat 1.5 l. dog'
    labels = label_folder(inferencer, folder, tmp_path, texts=texts, score_thr=0.0, class_thresholds={'dog': 1.0})
    assert labels.names == ['traffic light', 'cat 1.5 l', 'dog'] and set(labels.counts()) <= set(labels.names[:2])
    with pytest.raises(UserError, match='give texts'):
        label_folder(inferencer, folder, tmp_path)


def test_the_command_writes_what_annotation_tools_read(files, tmp_path, capsys):
    given = ['--model', str(files / 'config.py'), '--weights', str(files / 'weights.pth'), '--device', 'cpu']
    given += ['--texts', 'dog', 'red cat', '--threshold', '0.0', '--no-page', '--save-as', 'yolo', 'cvat', 'coco']
    assert main(['label', str(files), *given, '--out', str(tmp_path)]) == 0
    assert 'boxes in' in capsys.readouterr().out
    coco = json.loads((tmp_path / 'coco.json').read_text())
    assert [category['name'] for category in coco['categories']] == ['dog', 'red cat']
    for form in ('yolo', 'cvat', 'coco'):
        again = read_data(tmp_path / form)
        assert again.format == form and again.classes == ['dog', 'red cat']
        boxes = [box.xyxy for picture in again.pictures for box in picture.boxes]
        assert len(boxes) == len(coco['annotations']) > 0
        assert sum(boxes[0]) == pytest.approx(sum(_corners(coco['annotations'][0])), abs=0.1)
    assert main(['label', str(files), *given, '--out', str(tmp_path)]) == 1
    assert 'is not empty' in capsys.readouterr().err


def _corners(entry):
    x, y, width, height = entry['bbox']
    return x, y, x + width, y + height


def test_more_names_than_a_text_may_have(files, tmp_path, capsys):
    tool = runpy.run_path(str(ROOT / 'tools' / 'auto_label.py'))
    given = [str(files), str(files / 'config.py'), '--weights', str(files / 'weights.pth'), '--device', 'cpu']
    given += ['--out', str(tmp_path), '--score-thr', '0', '--no-page', '--texts', ' . '.join(map(str, range(200)))]
    with pytest.raises(UserError, match=r'^the text of 200 names has .* tokens, and only 256 are read'):
        tool['main'](given)
    tool['main']([*given, '--chunked-size', '60'])
    lines = [json.loads(line) for line in (tmp_path / 'odvg.json').read_text().splitlines()]
    entries = [entry for line in lines for entry in line['detection']['instances']]
    assert entries and all(entry['category'] == str(entry['label']) for entry in entries)
    assert max(entry['label'] for entry in entries) > 90
    assert len(json.loads((tmp_path / 'label_map.json').read_text())) == 200
