"""What mmdet benchmark measures, of a checkpoint and of files beside it."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from mmdet.apis import launch
from mmdet.apis.benchmarking import as_table, inputs_for, measure_all, milliseconds
from mmdet.apis.exporting import evaluate
from mmdet.cli.benchmark import run
from mmdet.config import load_config
from mmdet.errors import UserValueError
from mmdet.export.metadata import Metadata
from mmdet.registry import MODELS

CONFIG = str(Path(__file__).parents[2] / 'configs' / 'quickstart' / 'rtmdet_tiny_shapes.py')


def arguments(*files, **changes):
    options = dict(config=CONFIG, cfg_options={}, size=(64, 96), runs=1, threads=None, no_eval=True, device='cpu')
    return Namespace(files=list(map(str, files)), **{**options, **changes})


@pytest.fixture
def checkpoint(tmp_path, default_scope):
    model = MODELS.build(load_config(CONFIG).model)
    file = tmp_path / 'a checkpoint.pth'
    torch.save(dict(state_dict=model.state_dict(), optimizer=torch.zeros(10**7)), file)
    return file


def test_a_file_that_cannot_be_measured_leaves_the_others(checkpoint, tmp_path):
    said = []
    assert not measure_all(arguments(checkpoint, tmp_path / 'absent.onnx'), said.append)
    assert said[0] == f'measuring {checkpoint}'
    names, row, failure = said[-1].splitlines()
    assert names.split() == ['file', 'kind', 'MB', 'ms', 'input']
    assert row.startswith('a checkpoint.pth  torch float32') and row.endswith('64 x 96')
    assert float(row.split()[4]) < 10  # of the weights, without what an optimizer keeps
    assert 'absent.onnx is not measured: There is no exported file' in failure


def test_exit_code(checkpoint, capsys):
    assert run(arguments(checkpoint)) == 0 and 'torch float32' in capsys.readouterr().out
    assert run(arguments('absent.pt2')) == 1
    with pytest.raises(UserValueError, match='--runs must be at least 1, not 0'):
        run(arguments(checkpoint, runs=0))


def test_inputs_are_what_the_test_pipeline_makes(default_scope):
    cfg = load_config(CONFIG)
    whole = inputs_for(cfg, Metadata('', 'torch', dynamic_size=True))
    assert all(side % 32 == 0 for image in whole for side in image.shape[2:])
    asked = inputs_for(cfg, Metadata('', 'torch', dynamic_size=True), (64, 96))
    fixed = inputs_for(cfg, Metadata('', 'torch', size=[64, 96]), (320, 320))
    assert asked[0].shape == fixed[0].shape == (1, 3, 64, 96)


def test_times_are_medians_of_runs_over_all_inputs():
    seen = []
    inputs = [torch.full((1,), float(i)) for i in range(2)]
    assert milliseconds(lambda image: seen.append(float(image)), inputs, 3) >= 0
    assert seen == [0, 1, 0, 1, 0, 1]


def test_table():
    rows = [dict(file='a.pth', ms=1.23456), dict(file='b.onnx', ms=None, mAP=0.5)]
    assert as_table(rows).splitlines() == ['file    ms     mAP', 'a.pth   1.235  -', 'b.onnx  -      0.5']


def test_evaluation_leaves_the_folder_of_a_training_alone(monkeypatch):
    seen = []

    class Runner:
        def __init__(self, cfg):
            seen.append(cfg)

        def test(self):
            return dict(mAP=0.5, table='text')

    monkeypatch.setattr(launch, 'build_runner', Runner)
    cfg = load_config(CONFIG)
    cfg.work_dir = 'work_dirs/mine'
    assert evaluate(cfg, 'mine.pth') == dict(mAP=0.5)
    assert seen[0].load_from == 'mine.pth' and seen[0].work_dir != cfg.work_dir == 'work_dirs/mine'
