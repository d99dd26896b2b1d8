import pytest

from mmdet.config import find_config, load_config, packaged_config, resolve_config
from mmdet.config.bases import diff_to_base
from mmdet.errors import UserFileError, UserValueError


@pytest.mark.parametrize(
    'name, stem',
    [
        ('retinanet_r18_fpn_1x_coco', 'retinanet_r18_fpn_1x_coco'),
        ('rtmdet-tiny', 'rtmdet_tiny_8xb32-300e_coco'),
        ('rtmdet_t', 'rtmdet_tiny_8xb32-300e_coco'),
        ('rtmdet-l', 'rtmdet_l_8xb32-300e_coco'),
        ('faster-rcnn_r50', 'faster-rcnn_r50_fpn_1x_coco'),
        ('dino', 'dino-4scale_r50_8xb2-12e_coco'),
        ('dfine-s', 'dfine_hgnetv2-s_8xb4-124e_coco'),
        ('rtdetr-r18', 'rtdetr_r18vd_4xb4-72e_coco'),
    ],
)
def test_names_are_found(name, stem):
    assert find_config(name).stem == stem


@pytest.mark.parametrize(
    'name, words',
    [
        ('rtmdet-tinny', 'rtmdet_tiny_8xb32-300e_coco'),
        ('cascade-rcnn_x101', 'may be short for cascade-rcnn_x101-32x4d_fpn_1x_coco'),
        ('', 'neither a config file nor the name'),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(UserFileError, match=words):
        find_config(name)


def test_packaged_config():
    path = packaged_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    assert path.is_file() and resolve_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco') == path
    with pytest.raises(UserFileError, match=r'Did you mean mmdet::retinanet/retinanet_r18_fpn_1x_coco\.py'):
        packaged_config('mmdet::fcos/retinanet_r18_fpn_1x_coco.py')
    with pytest.raises(UserValueError, match='leads out'):
        packaged_config('mmdet::../setup.py')


def test_what_looks_like_a_file_is_one(tmp_path):
    assert resolve_config('rtmdet-tiny.py').name == 'rtmdet-tiny.py'
    assert resolve_config(tmp_path) == tmp_path


def test_base_of_the_package(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\ntrain_cfg = dict(max_epochs=2)\n")
    cfg = load_config(file)
    assert cfg.model.type == 'RetinaNet' and cfg.train_cfg.max_epochs == 2
    assert diff_to_base(cfg, file) == ['- train_cfg.max_epochs = 12', '+ train_cfg.max_epochs = 2']
