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
    expect(run(mmdet, '--help'), 'train', 'val', 'doctor')
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
    output = run(
        *(VENV / 'bin' / 'mmdet', 'train', 'retinanet_r18_shapes', '--work-dir', 'run', '--cfg-options'),
        *('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.num_workers=0'),
        *('train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0'),
        *('val_dataloader.persistent_workers=False',),
    )
    expect(output, 'bbox_mAP')
    assert Path('run/epoch_1.pth').is_file()
    expect(run(VENV / 'bin' / 'mmdet', 'doctor', 'retinanet_r18_shapes', '--no-images'), 'train')


if __name__ == '__main__':
    for step in (import_is_light, commands_answer, configs_are_found, trains):
        print(step.__name__, flush=True)
        step()
