import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'analyze_logs.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('analyze_logs', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_log(folder, by_epoch=True):
    path = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    with path.open('w') as file:
        for epoch in (1, 2):
            for iteration in (10, 20):
                step = 25 * (epoch - 1) + iteration
                entry = dict(lr=0.1, loss=1 / step, time=0.1 * epoch + (iteration == 10), iter=step, step=step)
                file.write(json.dumps({**entry, 'epoch': epoch} if by_epoch else entry) + '\n')
            step = epoch if by_epoch else 25 * epoch
            file.write(json.dumps({'coco/bbox_mAP': 0.1 * epoch, 'time': 0.5, 'step': step}) + '\n')
        file.write('{"cut off\n')
    return path


@pytest.mark.parametrize('by_epoch', [True, False])
def test_validation_lies_on_the_axis_of_iterations(tool, tmp_path, by_epoch, capsys):
    path = write_log(tmp_path, by_epoch)
    log = tool.Log(str(tmp_path))
    assert log.path == path
    assert 'not JSON' in capsys.readouterr().err
    assert log.curve('loss') == ([10, 20, 35, 45], [1 / 10, 1 / 20, 1 / 35, 1 / 45])
    assert log.curve(log.resolve('bbox_mAP')) == ([25, 50], [0.1, 0.2])
    if by_epoch:
        assert log.curve('loss', start_epoch=2)[0] == [35, 45]
    with pytest.raises(KeyError, match='coco/bbox_mAP'):
        log.resolve('bbox_map')


def test_curves_are_drawn(tool, tmp_path, capsys):
    write_log(tmp_path / 'a')
    write_log(tmp_path / 'b', by_epoch=False)
    out = tmp_path / 'plots' / 'curves.png'
    tool.main(
        ['plot_curve', str(tmp_path / 'a'), '--keys', 'loss', 'lr', 'bbox_mAP', '--smooth', '0.5', '--out', str(out)]
    )
    assert out.read_bytes().startswith(b'\x89PNG')
    tool.main(['plot_curve', str(tmp_path / 'a'), str(tmp_path / 'b'), '--out', str(out), '--style', 'dark'])
    with pytest.raises(SystemExit, match='no log at'):
        tool.main(['plot_curve', str(tmp_path / 'none'), '--out', str(out)])
    with pytest.raises(SystemExit):
        tool.main(['plot_curve', str(tmp_path / 'a'), '--legend', 'one', 'two'])
    assert '--legend needs 1 labels' in capsys.readouterr().err


def test_time_leaves_out_the_first_entry(tool, tmp_path, capsys):
    write_log(tmp_path)
    tool.main(['cal_train_time', str(tmp_path)])
    assert 'slowest epoch 2, average time is 0.2000' in capsys.readouterr().out
    tool.main(['cal_train_time', str(tmp_path), '--include-outliers'])
    assert 'slowest epoch 2, average time is 0.7000' in capsys.readouterr().out
