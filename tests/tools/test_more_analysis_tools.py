"""Robustness, fusion, anchors, sizes of pictures, downloads and TorchServe: each tool as it is called."""

import http.server
import json
import os
import sys
import threading
import types
import zipfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_dataset_converters import tool

from mmdet.apis import robustness
from mmdet.errors import UserFileError, UserImportError, UserKeyError, UserValueError
from mmdet.utils.unpickling import read_pickle

QUICKSTART = 'configs/quickstart/retinanet_r18_shapes.py'


# Robustness ---------------------------------------------------------------------------------------------------------
def test_chosen_corruptions():
    assert len(robustness.chosen_corruptions(['benchmark'])) == 15 and len(robustness.chosen_corruptions(['all'])) == 19
    assert robustness.chosen_corruptions(['blur', 'fog', 'fog'])[-2:] == ['zoom_blur', 'fog']
    assert robustness.chosen_corruptions(['fog', 'None']) == ['None']
    with pytest.raises(UserValueError, match="no corruption 'mist'"):
        robustness.chosen_corruptions(['mist'])


def test_pictures_are_corrupted_right_after_they_are_loaded():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize')]
    assert robustness.corrupted_pipeline(pipeline, 'fog', 0) == pipeline
    assert robustness.corrupted_pipeline(pipeline, 'fog', 2)[1] == dict(type='Corrupt', corruption='fog', severity=2)
    with pytest.raises(UserValueError, match='loads no picture'):
        robustness.corrupted_pipeline([dict(type='Resize')], 'fog', 2)


RESULTS = {
    'fog': {0: {'coco/bbox_mAP': 0.5}, 1: {'coco/bbox_mAP': 0.4}, 2: {'coco/bbox_mAP': 0.2}},
    'snow': {0: {'coco/bbox_mAP': 0.5}, 1: {'coco/bbox_mAP': 0.1}, 2: {'coco/bbox_mAP': 0.1}},
    'saturate': {0: {'coco/bbox_mAP': 0.5}, 1: {'coco/bbox_mAP': 0.5}, 2: {'coco/bbox_mAP': 0.5}},
}


@pytest.mark.parametrize('suffix', ['json', 'pkl'])
def test_robustness_eval(suffix, tmp_path, capsys):
    from mmengine.fileio import dump

    dump(RESULTS, str(tmp_path / f'r.{suffix}'))
    module = tool('analysis_tools/robustness_eval')
    module.main([str(tmp_path / f'r.{suffix}'), '--prints', 'P', 'mPC', 'rPC'])
    printed = capsys.readouterr().out
    assert 'AP     = 0.500' in printed and 'AP     = 0.200' in printed and 'AP     = 40.0 %' in printed
    module.main([str(tmp_path / f'r.{suffix}'), '--aggregate', 'all', '--metric', 'AP'])
    assert 'AP     = 0.300' in capsys.readouterr().out
    with pytest.raises(UserKeyError, match='no AP50 of bbox, only coco/bbox_mAP'):
        module.main([str(tmp_path / f'r.{suffix}'), '--metric', 'AP50'])
    with pytest.raises(UserFileError, match='does not exist'):
        module.main([str(tmp_path / 'none.pkl')])


@pytest.fixture
def shapes(tmp_path, monkeypatch, default_scope):
    """A folder to work in, with a data set of shapes and a checkpoint of random weights for it."""
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(root / 'configs')
    tool('dataset_converters/shapes').make_dataset(tmp_path / 'data/shapes', train=4, val=3, seed=0)
    from mmdet.apis import init_detector

    detector = init_detector(QUICKSTART, None, device='cpu')
    meta = dict(dataset_meta=detector.dataset_meta)
    torch.save(dict(meta=meta, state_dict=detector.state_dict()), tmp_path / 'weights.pth')
    return tmp_path


def test_robustness(shapes, monkeypatch, capsys):
    seen = []

    def corrupt(img, corruption_name, severity):
        seen.append((corruption_name, severity))
        return np.full_like(img, 10 * severity)

    monkeypatch.setitem(sys.modules, 'imagecorruptions', types.SimpleNamespace(corrupt=corrupt))
    module = tool('analysis_tools/test_robustness')
    args = [QUICKSTART, 'weights.pth', '--corruptions', 'fog', 'snow', '--severities', '0', '2', '--out', 'r.json']
    options = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    module.main(module.parse_args([*args, '--summaries', *options]))
    assert sorted(set(seen)) == [('fog', 2), ('snow', 2)] and len(seen) == 6
    results = json.loads((shapes / 'r_results.json').read_text())
    assert list(results) == ['fog', 'snow'] and list(results['snow']) == ['0', '2']
    assert 'mPC: mean performance under corruption' in capsys.readouterr().out


def test_robustness_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagecorruptions', None)
    module = tool('analysis_tools/test_robustness')
    with pytest.raises(UserImportError, match='pip install imagecorruptions-imaug'):
        module.main(module.parse_args([QUICKSTART, 'weights.pth']))


# Fusion and anchors -------------------------------------------------------------------------------------------------
def test_fuse_results(tmp_path, capsys):
    truth = dict(
        images=[dict(id=7, width=100, height=100)],
        categories=[dict(id=3, name='cat')],
        annotations=[dict(id=1, image_id=7, category_id=3, bbox=[10, 10, 20, 20], area=400, iscrowd=0)],
    )
    detection = dict(image_id=7, category_id=3, score=0.8)
    (tmp_path / 'ann.json').write_text(json.dumps(truth))
    (tmp_path / 'a.json').write_text(json.dumps([{**detection, 'bbox': [8, 10, 20, 20]}]))
    (tmp_path / 'b.json').write_text(json.dumps([{**detection, 'bbox': [12, 10, 20, 20]}]))
    module = tool('analysis_tools/fuse_results')
    files = [str(tmp_path / name) for name in ('a.json', 'b.json')]
    args = [*files, '--annotation', str(tmp_path / 'ann.json'), '--eval-single', '--save-fusion-results']
    numbers = module.main([*args, '--out-dir', str(tmp_path / 'out')])
    assert numbers['mAP'] == pytest.approx(1)
    (fused,) = json.loads((tmp_path / 'out/fusion_results.json').read_text())
    assert fused['bbox'] == pytest.approx([10, 10, 20, 20]) and fused['category_id'] == 3 and fused['image_id'] == 7
    assert capsys.readouterr().out.count('maxDets=') == 36
    with pytest.raises(UserValueError, match='--weights has 1 numbers for 2 files'):
        module.main([*args, '--weights', '2'])
    with pytest.raises(UserValueError, match='two files'):
        module.main([files[0], '--annotation', 'x'])


def test_anchors_find_the_sizes_that_boxes_have():
    module = tool('analysis_tools/optimize_anchors')
    rng = np.random.default_rng(0)
    sizes = np.concatenate([rng.normal(size, 1, (50, 2)) for size in ((20, 40), (100, 60))])
    for anchors in (module.k_means(sizes, 2, 100), module.differential_evolution(sizes, 2, 60, (128, 128))):
        anchors = anchors[np.argsort(anchors.prod(1))]
        np.testing.assert_allclose(anchors, [(20, 40), (100, 60)], atol=1.5)
        assert module.fit(sizes, anchors) > 0.95


def test_optimize_anchors(shapes, capsys):
    module = tool('analysis_tools/optimize_anchors')
    config = 'configs/yolo/yolov3_d53_8xb8-320-273e_coco.py'
    data = dict(
        type='CocoDataset', data_root='data/shapes', ann_file='annotations/train.json', data_prefix=dict(img='train')
    )
    text = f"_base_ = '../{config}'\ntrain_dataloader = dict(dataset=dict(_delete_=True, **{data}, pipeline=[],\n"
    text += "    metainfo=dict(classes=('circle', 'square', 'triangle'))))\n"
    (shapes / 'own').mkdir()
    (shapes / 'own/yolo.py').write_text(text)
    found = module.main(['own/yolo.py', '--algorithm', 'k-means', '--input-shape', '320', '--output-dir', 'out'])
    areas = [w * h for w, h in found]
    assert len(found) == 9 and areas == sorted(areas)
    assert json.loads((shapes / 'out/anchor_optimize_result.json').read_text()) == found
    printed = capsys.readouterr().out
    assert f'base_sizes=[{[tuple(size) for size in found[-3:]]}, ' in printed
    with pytest.raises(UserValueError, match=r'has no model\.bbox_head'):
        module.main([QUICKSTART])


# Pictures and downloads ---------------------------------------------------------------------------------------------
def test_get_image_metas(shapes):
    tool('misc/get_image_metas').main([QUICKSTART, '--out', 'metas.pkl', '--nproc', '2'])
    with open('metas.pkl', 'rb') as file:
        metas = read_pickle(file)
    sizes = {path.name: (*cv2.imread(str(path)).shape[:2], 3) for path in (shapes / 'data/shapes/val').iterdir()}
    assert {meta['filename']: tuple(meta['ori_shape']) for meta in metas} == sizes


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / 'server'
    folder.mkdir()
    with zipfile.ZipFile(folder / 'a.zip', 'w') as archive:
        archive.writestr('inside/x.txt', 'x')
    (folder / 'b.json').write_text('{}')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    http_server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{http_server.server_port}'
    http_server.shutdown()
    http_server.server_close()


def test_download_dataset(server, tmp_path, monkeypatch):
    module = tool('misc/download_dataset')
    monkeypatch.setitem(module.ADDRESSES, 'balloon', [f'{server}/a.zip', f'{server}/b.json'])
    monkeypatch.setenv('MMDET_DOWNLOAD_LIMIT', '1')
    module.main(['--dataset-name', 'balloon', '--save-dir', str(tmp_path / 'out'), '--unzip', '--delete'])
    found = {str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out').rglob('*') if path.is_file()}
    assert found == {os.path.join('inside', 'x.txt'), 'b.json'}
    monkeypatch.setitem(module.ADDRESSES, 'balloon', [f'{server}/none.zip'])
    with pytest.raises(OSError, match='the server answers 404'):
        module.main(['--dataset-name', 'balloon', '--save-dir', str(tmp_path / 'out')])


def test_addresses_have_places_of_their_own():
    module = tool('misc/download_dataset')
    for name, urls in module.ADDRESSES.items():
        assert len({module.place_of(name, url) for url in urls}) == len(urls), name
    assert module.place_of('objects365v2', module.ADDRESSES['objects365v2'][-1]) == Path('val/patch43.tar.gz')


# TorchServe ---------------------------------------------------------------------------------------------------------
def test_handler(shapes, monkeypatch):
    import base64

    from mmdet.config import load_config

    load_config(QUICKSTART).dump(str(shapes / 'config.py'))
    module = tool('deployment/mmdet_handler')
    monkeypatch.setenv('MMDET_SCORE_THR', '0.001')
    context = types.SimpleNamespace(
        system_properties=dict(model_dir=str(shapes), gpu_id=None),
        manifest=dict(model=dict(serializedFile='weights.pth')),
    )
    content = next((shapes / 'data/shapes/val').iterdir()).read_bytes()
    handler = module.MMdetHandler()
    answers = handler.handle([dict(body=content), dict(data=base64.b64encode(content).decode())], context)
    assert json.loads(json.dumps(answers)) == answers and answers[0] == answers[1]
    first = answers[0][0]
    assert first['class_name'] == handler.model.dataset_meta['classes'][first['class_label']]
    assert len(first['bbox']) == 4 and first['score'] >= 0.001


def test_mmdet2torchserve(shapes, monkeypatch):
    module = tool('deployment/mmdet2torchserve')
    monkeypatch.setattr(module.shutil, 'which', lambda *args, **kwargs: None)
    with pytest.raises(UserImportError, match='pip install torch-model-archiver'):
        module.main([QUICKSTART, 'weights.pth', '--output-folder', 'store'])
    script, archiver = shapes / 'archiver.py', shapes / 'archiver'
    archiver.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    script.write_text(
        'import sys, zipfile\n'
        'a = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n'
        "with zipfile.ZipFile(f\"{a['--export-path']}/{a['--model-name']}.mar\", 'w') as f:\n"
        "    for key in ('--handler', '--serialized-file', '--extra-files'):\n        f.write(a[key])\n"
    )
    archiver.chmod(0o755)
    monkeypatch.setattr(module.shutil, 'which', lambda *args, **kwargs: str(archiver))
    module.main([QUICKSTART, 'weights.pth', '--output-folder', 'store', '--model-name', 'shapes'])
    with zipfile.ZipFile(shapes / 'store/shapes.mar') as archive:
        assert sorted(Path(name).name for name in archive.namelist()) == [
            'config.py',
            'mmdet_handler.py',
            'weights.pth',
        ]
    with pytest.raises(UserFileError, match='exists; --force overwrites it'):
        module.main([QUICKSTART, 'weights.pth', '--output-folder', 'store', '--model-name', 'shapes'])
