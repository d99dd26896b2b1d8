"""Each benchmark runs on tiny inputs; those that compare results fail by themselves where these differ."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'
TINY = {
    'targets': '--batch 2 --boxes 5 --size 96 128 --rounds 1',
    'many_objects': '--heads FCOSHead --objects 20 --size 96 128',
    'set_matching': '--batch 2 --layers 2 --queries 20 --boxes 3 --rounds 1',
    'dense_masks': '--batch 2 --objects 4 --size 128 128 --rounds 1 --crowd 0',
    'query_masks': '--points 16 --size 64 64 --objects 2',
    'postprocess': '--size 96 128 --rounds 1',
    'data_loading': '--images {images} --rounds 1 --to-device --stages',
    'coco_eval': '--images 20 --detections 10 --rounds 1',
    'engine_overhead': '--iterations 3 --repetitions 1',
    'start_up': '--rounds 1',
}


def run(name, options, folder):
    environment = os.environ | dict(OMP_NUM_THREADS='1')
    command = [sys.executable, str(FOLDER / f'{name}.py'), *shlex.split(options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for i in range(3):
        cv2.imwrite(str(folder / f'{i}.jpg'), np.random.RandomState(i).randint(0, 255, (60, 80 + i, 3), np.uint8))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', TINY)
def test_parts(name, images, tmp_path):
    out = tmp_path / 'rows.json'
    run(name, f'{TINY[name].format(images=images)} --out {out}', tmp_path)
    found = json.loads(out.read_text())
    assert found['versions']['torch']
    assert found['rows'] and all(row['ours'] >= 0 for row in found['rows'] if row['unit'] != 'us')


@pytest.mark.slow
def test_memory_does_not_grow_with_files(tmp_path):
    """The program ends with 1 where a file that can be read has no result, or another is not listed."""
    run('many_files', f'--counts 72 216 --out {tmp_path / "rows.json"}', tmp_path)
    assert json.loads((tmp_path / 'rows.json').read_text())['times'] < 1.1


@pytest.mark.slow
def test_all_parts_in_one_command(images, tmp_path):
    options = f'--only postprocess data_loading --images {images} --rounds 1 --out report'
    table = run('parts', options, tmp_path)
    assert 'times as good as torchvision' in table and 'loading: LoadImageFromFile' in table
    assert len(json.loads((tmp_path / 'report' / 'parts.json').read_text())['rows']) > 5
    assert (tmp_path / 'report' / 'parts.png').stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['train', 'infer'])
def test_detectors(mode, tmp_path):
    options = f'--models faster_rcnn --mode {mode} --size 64 96 --boxes 3 --rounds 1 --out report'
    assert 'ours / torchvision' in run('detectors', options, tmp_path)
    names = json.loads((tmp_path / 'report' / 'detectors.json').read_text())['table'][0]['results']
    assert set(names) == {'ours', 'bare network', 'torchvision'}


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['train', 'infer'])
def test_detectors_of_transformers(mode, tmp_path):
    options = f'--models detr deformable_detr --mode {mode} --size 160 224 --padded --boxes 3 --rounds 1 --out report'
    printed = run('detectors', options, tmp_path)
    rows = json.loads((tmp_path / 'report' / 'detectors.json').read_text())['table']
    peers = {'transformers'} if importlib.util.find_spec('transformers') else set()
    assert all(set(row['results']) == {'ours', 'bare network', *peers} for row in rows)
    assert printed.count('transformers is not installed') == (0 if peers else 2)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['train', 'infer'])
def test_detectors_of_transformers_in_real_time(mode, tmp_path):
    pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')
    names = 'rtdetrv2_r50 dfine_l' if mode == 'train' else 'rtdetr_r18 dfine_s lwdetr_tiny rfdetr_nano'
    run('detectors', f'--models {names} --mode {mode} --size 320 320 --boxes 3 --rounds 1 --out report', tmp_path)
    rows = json.loads((tmp_path / 'report' / 'detectors.json').read_text())['table']
    assert [row['model'] for row in rows] == names.split()
    assert all(set(row['results']) == {'ours', 'bare network', 'transformers'} for row in rows)


def test_table_of_a_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    times = dict(ours=0.2, transformers=0.4, **{'bare network': 0.1})
    results = {name: dict(seconds=seconds, peak_mib=round(seconds * 100)) for name, seconds in times.items()}
    row = dict(model='detr', mode='train', syncs={'core/set_matching.py:1': 2}, results=results)
    head, line, cells = gpu.as_table([row]).splitlines()
    assert head.count('|') == line.count('|') == cells.count('|')
    assert cells == '| detr | train | 100.0 | 200.0 | 2.00 | - | transformers | 0.50 | - | 2 | 20 | 40 |'
    alone = dict(row, results={name: results[name] for name in ('ours', 'bare network')})
    assert '| - | - | - | 2 | 20 | - |' in gpu.as_table([alone])


@pytest.mark.slow
def test_thousands_of_objects_in_little_memory(tmp_path):
    heads = "RTMDetHead RTMDetSepBNHead YOLOXHead TOODHead 'TOODHead initial epochs'"
    table = run('many_objects', f'--heads {heads} --objects 3000 --size 640 640 --limit 6 --backward', tmp_path)
    assert table.startswith('3000 objects') and len(table.splitlines()) == 7


# config -> how many files and changes of file one loss may take
LIMITS = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': (12, 60),
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': (12, 60),
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': (30, 180),
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py': (35, 220),
}


@pytest.mark.slow
@pytest.mark.parametrize('config', LIMITS)
def test_reading_path(config, tmp_path):
    path = FOLDER.parent / 'configs' / config
    loss, prediction = json.loads(run('reading_path', f'"{path}" --size 128 160 --json', tmp_path))
    assert (loss['step'], prediction['step']) == ('loss', 'predict')
    assert 0 < loss['files'] < loss['functions'] < loss['lines']
    files, moves = LIMITS[config]
    assert loss['files'] <= files and loss['files'] < loss['moves'] <= moves
    table = run('reading_path', f'"{path}" --size 128 160 --walk loss', tmp_path)
    assert f'{path.stem}  loss' in table and 'models/detectors/' in table.splitlines()[0]


@pytest.mark.slow
def test_drawing(tmp_path):
    printed = run('drawing', f'--repeat 1 --out {tmp_path / "out"}', tmp_path)
    assert '21 boxes: mmdet' in printed
    found = json.loads((tmp_path / 'out' / 'drawing.json').read_text())
    assert (
        all(row['mmdet'] > 0 for row in found.values()) and (tmp_path / 'out' / 'drawing_mmdet_21_boxes.png').is_file()
    )
