import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmdet import utils


def test_every_public_name_is_there():
    for name in utils.__all__:
        assert getattr(utils, name) is not None


def test_register_all_modules():
    DefaultScope._instance_dict.clear()
    utils.register_all_modules(init_default_scope=False)
    assert DefaultScope.get_current_instance() is None
    utils.register_all_modules()
    assert DefaultScope.get_current_instance().scope_name == 'mmdet'
    DefaultScope._instance_dict.clear()


def test_setup_multi_processes(monkeypatch):
    import cv2

    threads = cv2.getNumThreads()
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('MKL_NUM_THREADS', '3')
    utils.setup_multi_processes({'train_dataloader': {'num_workers': 2}, 'omp_num_threads': 2})
    import os

    assert os.environ['OMP_NUM_THREADS'] == '2' and os.environ['MKL_NUM_THREADS'] == '3'
    cv2.setNumThreads(threads)


def test_find_latest_checkpoint(tmp_path):
    assert utils.find_latest_checkpoint(tmp_path) is None
    for name in ('epoch_2.pth', 'epoch_12.pth', 'best_coco.pth', 'epoch_13.txt'):
        (tmp_path / name).touch()
    assert utils.find_latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_12.pth')
    (tmp_path / 'latest.pth').touch()
    assert utils.find_latest_checkpoint(tmp_path).endswith('latest.pth')


def test_update_data_root(monkeypatch):
    cfg = Config({'data_root': 'data/coco/', 'a': {'ann': 'data/coco/x.json', 'list': [{'b': 'data/coco/y'}, 'other']}})
    monkeypatch.delenv('MMDET_DATASETS', raising=False)
    utils.update_data_root(cfg)
    assert cfg.data_root == 'data/coco/'
    monkeypatch.setenv('MMDET_DATASETS', '/big/')
    utils.update_data_root(cfg)
    assert cfg.to_dict() == {'data_root': '/big/', 'a': {'ann': '/big/x.json', 'list': [{'b': '/big/y'}, 'other']}}


def test_replace_cfg_vals():
    cfg = Config(
        {'work': {'dir': 'runs'}, 'n': 3, 'path': '${work.dir}/epoch_${n}', 'same': '${work}', 'list': ['${n}']}
    )
    new = utils.replace_cfg_vals(cfg)
    assert new.path == 'runs/epoch_3' and new.same == {'dir': 'runs'} and new.list == [3]
    assert cfg.list == ['${n}']
    with pytest.raises(KeyError, match='dirr'):
        utils.replace_cfg_vals(Config({'work': {'dir': 'x'}, 'path': '${work.dirr}'}))
    with pytest.raises(TypeError, match='work'):
        utils.replace_cfg_vals(Config({'work': {'dir': 'x'}, 'path': 'a/${work}'}))


def test_get_test_pipeline(tmp_path):
    pipeline = [{'type': 'LoadImageFromFile'}]
    plain = Config({'test_dataloader': {'dataset': {'pipeline': pipeline}}})
    wrapped = Config({'test_dataloader': {'dataset': {'datasets': [{'dataset': {'pipeline': pipeline}}]}}})
    assert utils.get_test_pipeline_cfg(plain) == utils.get_test_pipeline_cfg(wrapped) == pipeline
    plain.dump(tmp_path / 'config.py')
    assert utils.get_test_pipeline_cfg(str(tmp_path / 'config.py')) == pipeline
    with pytest.raises(KeyError, match='pipeline'):
        utils.get_test_pipeline_cfg(Config({'test_dataloader': {'dataset': {'type': 'X'}}}))


def test_caller_and_scale():
    class Resize:
        def run(self):
            return utils.get_caller_name(), utils.log_img_scale((2, 3))

    def call():
        return utils.get_caller_name()

    assert call() == 'test_caller_and_scale'
    assert Resize().run() == ('test_caller_and_scale', True)
    assert not utils.log_img_scale((3, 3), skip_square=True)
    with pytest.raises(ValueError, match="'xy'"):
        utils.log_img_scale((3, 3), shape_order='xy')


def test_split_batch():
    img = torch.arange(4)
    metas = [{'tag': tag} for tag in ('sup', 'unsup', 'sup', 'unsup')]
    groups = utils.split_batch(img, metas, {'gt': ['a', 'b', 'c', 'd'], 'flag': 1})
    assert list(groups) == ['sup', 'unsup']
    assert groups['sup']['img'].tolist() == [0, 2] and groups['unsup']['gt'] == ['b', 'd']
    assert groups['sup']['flag'] == 1 and groups['sup']['tag'] == ['sup', 'sup']


def test_second_try_when_the_gpu_is_full():
    calls = []

    @utils.AvoidCUDAOOM.retry_if_cuda_oom
    def crowded(value):
        calls.append(value)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError('full')
        return value

    assert crowded(5) == 5 and calls == [5, 5]

    @utils.AvoidOOM(to_cpu=False).retry_if_cuda_oom
    def broken():
        raise RuntimeError('other')

    with pytest.raises(RuntimeError, match='other'):
        broken()


def test_collect_env():
    env = utils.collect_env()
    assert 'PyTorch' in env and env['MMDetection'][0].isdigit()


CLASSES = ('cat', 'dog')


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (0.4, 0.4),
        ([0.1, 0.2], [0.1, 0.2]),
        ({'dog': 0.6}, [0.3, 0.6]),
        ({'dog': {'threshold': 0.6, 'f_measure': 0.9}, 'cat': 0}, [0, 0.6]),
    ],
)
def test_score_thresholds(given, expected, tmp_path):
    def check(value):
        if isinstance(expected, list):
            torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float32))
        else:
            assert value == expected

    check(utils.resolve_score_thresholds(given, CLASSES))
    if not isinstance(given, float):
        (tmp_path / 'thresholds.json').write_text(json.dumps(given))
        check(utils.resolve_score_thresholds(tmp_path / 'thresholds.json', CLASSES))


def test_score_threshold_errors(tmp_path):
    with pytest.raises(ValueError, match=r"'dgo'.*Did you mean 'dog'"):
        utils.resolve_score_thresholds({'dgo': 0.5}, CLASSES)
    with pytest.raises(ValueError, match='3 numbers for 2 classes'):
        utils.resolve_score_thresholds([0.1, 0.2, 0.3], CLASSES)
    with pytest.raises(ValueError, match='not known'):
        utils.resolve_score_thresholds({'dog': 0.5})
    with pytest.raises(FileNotFoundError, match='nowhere'):
        utils.resolve_score_thresholds('nowhere.json', CLASSES)
    (tmp_path / 'broken.json').write_text('{')
    with pytest.raises(ValueError, match='not JSON'):
        utils.resolve_score_thresholds(tmp_path / 'broken.json', CLASSES)


def test_above_score_threshold():
    instances = InstanceData(scores=torch.tensor([0.9, 0.5, 0.5]), labels=torch.tensor([0, 0, 1]))
    assert len(utils.above_score_threshold(instances, 0.5)) == 1
    assert utils.above_score_threshold(instances, torch.tensor([0.95, 0.4])).labels.tolist() == [1]
    assert len(utils.above_score_threshold(instances[:0], torch.tensor([0.95, 0.4]))) == 0
