"""What an installed wheel has to do in an empty folder: called by .ci/wheel with the folder of its environment."""

import subprocess
import sys
from pathlib import Path

VENV = Path(sys.argv[1]).resolve()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{" ".join(map(str, command))} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}')
    return done.stdout + done.stderr


def expect(text, *words):
    for word in words:
        if word not in text:
            sys.exit(f'{word!r} is missing in\n{text[-3000:]}')


def import_is_light():
    import mmdet

    assert Path(mmdet.__file__).resolve().is_relative_to(VENV), mmdet.__file__
    assert (Path(mmdet.__file__).parent / 'py.typed').is_file()
    assert not {'torch', 'mmengine', 'numpy'} & set(sys.modules)


def commands_answer():
    mmdet = VENV / 'bin' / 'mmdet'
    expect(run(mmdet, '--help'), 'init', 'train', 'val', 'predict', 'models', 'doctor', 'convert')
    expect(run(mmdet, 'models', 'rtmdet-tiny'), 'rtmdet_tiny_8xb32-300e_coco')
    expect(run(sys.executable, '-m', 'mmdet', '--version'), 'mmdet ')
    expect(run(mmdet, 'train', '--help'), '--resume')


def configs_are_found():
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import mmdet.config
    from mmdet.registry import MODELS

    Path('mine.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n", encoding='utf-8')
    cfg = mmdet.config.load_config('mine.py')
    assert Config.fromfile('mine.py').model == cfg.model
    assert mmdet.config.load_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model.type == 'RetinaNet'
    assert mmdet.config.load_config('rtmdet-tiny').model.type == 'RTMDet'
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    MODELS.build(cfg.model)

    from mmdet.apis import DetInferencer

    assert 'retinanet_r18_fpn_1x_coco' in DetInferencer.list_models()


def trains():
    shapes = next((VENV / 'lib').glob('python3*/site-packages/mmdet/.mim/tools/dataset_converters/shapes.py'))
    run(sys.executable, shapes, 'data/shapes', '--train', 8, '--val', 4)
    mmdet = VENV / 'bin' / 'mmdet'
    run(mmdet, 'convert', 'data/shapes', 'data/yolo', '--to', 'yolo')
    budget = ('--epochs', 1, '--size', 96, '--batch', 4, '--workers', 0)
    output = run(mmdet, 'train', 'data/yolo', '--model', 'retinanet_r18', '--scratch', *budget, '--work-dir', 'run')
    expect(output, 'read as yolo: 8 train, 4 val', 'bbox_mAP')
    assert list(Path('run').glob('best_*.pth'))
    expect(run(mmdet, 'predict', 'data/yolo/images/val', '--model', 'run', '--threshold', 0.0), '4 pictures')
    expect(run(mmdet, 'doctor', 'run/data/config.py', '--no-images'), 'train')


if __name__ == '__main__':
    for step in (import_is_light, commands_answer, configs_are_found, trains):
        print(step.__name__, flush=True)
        step()
