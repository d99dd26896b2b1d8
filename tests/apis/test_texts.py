"""Detectors that are told in words what to look for, on pictures."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from mmdet.apis import Detector, inference_detector, init_detector
from mmdet.cli.main import main
from mmdet.errors import UserValueError

ROOT = Path(__file__).parents[2]


def test_texts(inferencer, files):
    pictures = [str(files / '0.png'), str(files / '1.png')]
    asked = dict(texts='cat . red light .', custom_entities=True)
    both = inferencer(pictures, batch_size=2, **asked)['predictions']
    for picture, found in zip(pictures, both):
        assert len(found['scores']) == 10 and {*found['label_names']} <= {'cat', 'red light'}
        (alone,) = inferencer(picture, **asked)['predictions']
        np.testing.assert_allclose(alone['scores'], found['scores'], rtol=1e-4)
    own = inferencer(pictures, texts=['a cat', 'the dog on the light'], return_datasamples=True)['predictions']
    names = [set(sample.pred_instances.label_names) for sample in own]
    assert names[0] == {'a cat'} and names[1] <= {'the dog', 'the light'}
    for places in ([[[2, 5]], [[6, 9]]], [[[[2, 5]], [[6, 9]]]]):  # of all pictures, of each
        placed = inferencer(pictures[0], texts='a red cat', tokens_positive=places)['predictions'][0]
        assert {*placed['label_names']} <= {'red', 'cat'}
    drawn = inferencer(pictures[0], texts=('cat', 'dog'), return_vis=True, pred_score_thr=0.0)['visualization'][0]
    assert drawn.ndim == 3


def test_without_texts(inferencer, files):
    with pytest.raises(UserValueError, match='give texts'):
        inferencer(str(files / '0.png'))


def test_one_picture(files):
    model = init_detector(str(files / 'config.py'), str(files / 'weights.pth'), device='cpu')
    found = inference_detector(model, str(files / '0.png'), text_prompt='cat . dog', custom_entities=True)
    assert set(found.pred_instances.label_names) <= {'cat', 'dog'}


def test_a_detector_is_told_names(files):
    detector = Detector(files / 'config.py', str(files / 'weights.pth'), device='cpu')
    pictures = [files / '0.png', str(files / '1.png')]
    found = detector.predict(pictures, threshold=0.0, batch=2, texts=['cat', 'red light'])
    same = detector.predict(pictures, threshold=0.0, texts='cat . red light .')
    for result, other in zip(found, same, strict=True):
        assert len(result) == len(result.names) == 10 and {*result.names} <= {'cat', 'red light'}
        assert result.names == [('cat', 'red light')[label] for label in result.labels]
        np.testing.assert_allclose(result.scores, other.scores, rtol=1e-4)
    (sentence,) = detector.predict(pictures[0], threshold=0.0, texts='a cat', custom_entities=False)
    assert {*sentence.names} == {'a cat'}
    with pytest.raises(UserValueError, match='give texts'):
        detector.predict(pictures)
    with pytest.raises(UserValueError, match="must be names to look for, not ''"):
        detector.predict(pictures, texts=['cat', ''])
    with pytest.raises(UserValueError, match=r"leave it out of 'St\. Bernard'"):
        detector.predict(pictures, texts=['cat .', 'St. Bernard'])


def test_the_command_is_told_names(files, tmp_path, capsys):
    given = ['--model', str(files / 'config.py'), '--weights', str(files / 'weights.pth'), '--device', 'cpu']
    given += ['--threshold', '0', '--texts', 'cat', 'red light', '--out', str(tmp_path / 'out')]
    assert main(['predict', str(files / '0.png'), *given, '--save-as', 'coco']) == 0
    (result,) = (tmp_path / 'out' / 'predictions.json').read_text().splitlines()
    names = {*json.loads(result)['names']}
    assert names <= {'cat', 'red light'}
    (written,) = (tmp_path / 'out' / 'coco' / 'annotations').glob('*.json')
    assert {entry['name'] for entry in json.loads(written.read_text())['categories']} == names


@pytest.mark.parametrize(
    'arguments',
    [
        ('--texts', 'cat . dog . red light', '-c', '--chunked-size', '2'),
        ('--texts', 'a red cat', '--tokens-positive', '[[[2, 5], [6, 9]]]'),
        ('--texts', 'a red cat', '--tokens-positive', '-1'),
        ('--texts', '$: coco', '--chunked-size', '5'),
    ],
)
def test_image_demo(files, tmp_path, arguments):
    from mmdet.apis.launch import run_tool

    demo = runpy.run_path(str(ROOT / 'demo' / 'image_demo.py'))
    given = [files / '0.png', files / 'config.py', '--weights', files / 'weights.pth', '--out-dir', tmp_path]
    given = [*map(str, given), '--device', 'cpu', *arguments]
    assert run_tool(demo['main'], demo['parse_args'](given)) == 0
    assert (tmp_path / 'vis' / '0.png').is_file() and (tmp_path / 'preds' / '0.json').is_file()
