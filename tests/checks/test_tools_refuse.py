"""The tools find what the check finds, before they build anything."""

import argparse
from pathlib import Path

import pytest

from mmdet.apis import launch
from mmdet.checks import ConfigError, load_with_options

RETINANET = Path(__file__).resolve().parents[2] / 'configs' / 'retinanet' / 'retinanet_r50_fpn_1x_coco.py'


class Built(Exception):
    """Stands for all that follows the check."""


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    def build(cfg):
        raise Built

    monkeypatch.setattr(launch, 'build_runner', build)
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'')

    def start(tool, options):
        args = argparse.Namespace(
            config=str(RETINANET), checkpoint=str(checkpoint), cfg_options=options, launcher='none'
        )
        args.__dict__.update(dict.fromkeys(('work_dir', 'compile', 'amp', 'auto_scale_lr', 'resume', 'show'), None))
        args.__dict__.update(dict.fromkeys(('show_dir', 'tta', 'optimize', 'out'), None))
        try:
            code = launch.run_tool(getattr(launch, tool), args)
        except Built:
            code = 0
        return code, capsys.readouterr().err

    return start


@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize(
    ('option', 'hint'),
    [
        ('model.test_cfg.score_thresh', 'Did you mean score_thr'),
        ('load_form', 'Did you mean load_from?'),
        ('default_hooks.chekpoint', 'Did you mean default_hooks.checkpoint?'),
        ('test_evaluator.classwize', 'Did you mean classwise'),
        ('optim_wraper.optimizer.lr', 'Did you mean optim_wrapper?'),
        ('launcher', 'use --launcher'),
    ],
)
def test_misspelt_options_stop(run, tool, option, hint):
    code, said = run(tool, {option: {'interval': 1} if 'chekpoint' in option else 1})
    assert code == 1 and option in said and hint in said


@pytest.mark.parametrize(
    ('tool', 'option', 'said'),
    [
        (
            'test',
            'val_evaluator.classwise',
            'val_evaluator.classwise has no effect on testing. It reads test_evaluator.',
        ),
        ('test', 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.lr has no effect on testing.'),
        ('test', 'load_from', 'load_from has no effect on testing.'),
        ('test', 'optim_wrapper.optimizer.lrr', 'error: optim_wrapper.optimizer.lrr: SGD has no argument'),
        ('train', 'test_evaluator.classwise', 'test_evaluator.classwise has no effect on training.'),
    ],
)
def test_options_that_a_tool_does_not_read_are_named(run, tool, option, said):
    code, message = run(tool, {option: 1})
    assert code == 0 and said in message


def test_options_that_take_effect_go_without_a_word(run):
    code, said = run(
        'test', {'data_root': '/nowhere/', 'model.test_cfg.score_thr': 0.1, 'vis_backends.0.type': 'LocalVisBackend'}
    )
    assert (code, said) == (0, '')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model.test_cfg.score_thresh': 0.3}, 'model.test_cfg.score_thresh: .* Did you mean score_thr'),
        ({'load_form': 'a'}, 'Did you mean load_from?'),
        ({'test_dataloader.dataset.pipeline.1.keepratio': True}, 'Did you mean keep_ratio'),
        ({'test_evaluator.clas_wise': True}, 'Did you mean classwise'),
    ],
)
def test_other_tools_and_the_library_stop_at_unknown_options(options, message):
    from mmdet.apis import init_detector

    for load in (load_with_options, lambda path, options: init_detector(path, cfg_options=options, device='cpu')):
        with pytest.raises(ConfigError, match=message):
            load(str(RETINANET), options)


def test_known_options_pass_whatever_else_is_wrong(tmp_path):
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {str(RETINANET)!r}\nload_form = 3\nmodel = dict(neck=dict(type="Nowhere"))\n')
    cfg = load_with_options(path, {'model.test_cfg.score_thr': 0.3, 'data_root': '/data/'})
    assert (cfg.model.test_cfg.score_thr, cfg.test_dataloader.dataset.data_root) == (0.3, '/data/')
    with pytest.raises(ConfigError, match='Nowher'):
        load_with_options(path, {'model.neck.type': 'Nowhere'})
