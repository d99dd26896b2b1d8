"""What the tools do once their arguments are parsed.

Nothing heavy is imported before it is needed: small tools end here too.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.errors import UserError, UserFileError, UserValueError
from mmdet.utils.processes import leave_process_group


def run_tool(tool: Callable[[Any], Any], args: argparse.Namespace | None) -> int:
    """Run a tool and give its exit code, which is 0 unless the tool returns a number.

    A mistake of the caller, and a file, disk or address that refuses, is one message; Ctrl-C is exit code 130 with the
    last checkpoint named.

    ``MMDET_DEBUG=1`` shows the traceback of mistakes as well.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal has no letters for must not end a tool
            stream.reconfigure(errors='backslashreplace')
    try:
        code = tool(args)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        print(f'\nInterrupted. {_last_checkpoint(args)}', file=sys.stderr)
        leave_process_group()
        return 128 + signal.SIGINT
    except (UserError, OSError) as error:  # the latter is a file, a disk or an address
        return _report(error)


def _report(error: UserError | OSError) -> int:
    if os.environ.get('MMDET_DEBUG'):
        print(getattr(error, 'worker_traceback', None) or '', file=sys.stderr)
        raise error
    print(f'error: {_sentence(error)}', file=sys.stderr)
    leave_process_group()
    return 1


def _sentence(error: UserError | OSError) -> str:
    if isinstance(error, UserError) or error.strerror is None:
        return str(error).strip() or type(error).__name__
    places = ' -> '.join(repr(str(name)) for name in (error.filename, error.filename2) if name is not None)
    return f'{places}: {error.strerror}' if places else error.strerror


def _last_checkpoint(args: argparse.Namespace) -> str:
    work_dir = getattr(args, 'work_dir', None)
    pointer = Path(work_dir) / 'last_checkpoint' if work_dir else None
    if pointer is None or not pointer.is_file():
        return 'No checkpoint was written.'
    return f'The last checkpoint is {pointer.parent / pointer.read_text().strip()}; --resume continues from it.'


def prepare(args: argparse.Namespace) -> Any:
    """The config with the arguments that every tool has."""
    from mmengine.registry import init_default_scope

    cfg = _read_config(args)
    for note in cfg.translation_notes:
        print_once(f'translated from MMDetection 2.x: {note}')
    if 'launcher' in (args.cfg_options or {}):
        raise UserValueError(f'--cfg-options launcher has no effect: use --launcher {args.cfg_options["launcher"]}')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename or args.config).stem)
    args.work_dir = cfg.work_dir
    if args.compile and not isinstance(cfg.get('compile'), dict):
        cfg.compile = True
    if getattr(args, 'verbose', False):
        cfg.console = 'full'
    cfg.setdefault('console', 'quiet')
    if getattr(args, 'log', None):
        from mmdet.engine.console import add_loggers

        add_loggers(cfg, args.log)
    cfg.setdefault('default_scope', 'mmdet')
    init_default_scope(cfg.default_scope)
    return cfg


def _read_config(args: argparse.Namespace) -> Any:
    """The config that is named, or that is in an exported file."""
    from mmdet.config import load_config
    from mmdet.export.runtime import is_exported

    if not is_exported(args.config):
        return load_config(args.config, args.cfg_options)
    from mmdet.export.exported_detector import config_inside

    return config_inside(args.config, args.cfg_options)


def build_runner(cfg: Any) -> Any:
    """The Runner that the config asks for, DetRunner unless it names another."""
    from mmdet.engine.runner import DetRunner

    kind = cfg.get('runner_type')
    if kind in (None, 'Runner', 'DetRunner'):
        return DetRunner.from_cfg(cfg)
    from mmdet.registry import RUNNERS

    return RUNNERS.build(cfg)


def train(args: argparse.Namespace) -> None:
    """``tools/train.py``"""
    cfg = prepare(args)
    if args.amp:
        wrapper = cfg.optim_wrapper
        kind = wrapper.get('type', 'OptimWrapper')
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise UserValueError(f'--amp works with optim_wrapper.type OptimWrapper, not {kind!r}')
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserValueError(
                f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {args.config}: '
                'the batch size that its learning rate is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if int(os.environ.get('TORCHELASTIC_RESTART_COUNT') or 0) > 0:
        print_once('torchrun has started the ranks again: they continue from the newest checkpoint')
        args.resume = 'auto'
    if args.resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif args.resume is not None:
        if '://' not in args.resume and not Path(args.resume).is_file():
            raise UserFileError(f'There is no checkpoint {args.resume!r} to resume.')
        cfg.resume, cfg.load_from = True, args.resume
    from mmdet.checks.config_check import require_sound

    require_sound(cfg, cfg.filename or args.config, print_once)
    _name_unread(args, {'test_dataloader', 'test_cfg', 'test_evaluator', 'tta_model', 'tta_pipeline'}, 'training')
    _keep_the_best(cfg)
    fit(build_runner(cfg))


def _keep_the_best(cfg: Any) -> None:
    """Let checkpoints be saved for the best metric as well, if they are saved and nothing is said of it."""
    saved = (cfg.get('default_hooks') or {}).get('checkpoint')
    if saved and cfg.get('val_evaluator'):
        saved.setdefault('save_best', 'auto')


def fit(runner: Any) -> None:
    """Train, and report on it."""
    from mmdet.apis.run_report import RunReport

    report = RunReport(runner)
    runner.train()
    report.after_training()


def measure(runner: Any) -> dict[str, Any]:
    """Test, and report on it; returns the metrics."""
    from mmdet.apis.run_report import RunReport

    report = RunReport(runner)
    metrics = runner.test()
    report.after_test()
    return metrics


def _name_unread(args: argparse.Namespace, sections: set[str], task: str) -> None:
    """Say which options set what a tool does not read."""
    for key in args.cfg_options or {}:
        name = key.partition('.')[0]
        if name in sections:
            other = name.replace('val_', 'test_')
            hint = f' It reads {other}.' if task == 'testing' and other != name else ''
            print_once(f'warning: {key} has no effect on {task}.{hint}')


def print_once(text: str) -> None:
    """Print on standard error, in the first process of a job alone."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))) == 0:
        print(text, file=sys.stderr)


def test(args: argparse.Namespace) -> None:
    """``tools/test.py``"""
    from mmdet.checks.config_check import ONLY_TRAINING, require_known_names
    from mmdet.export.runtime import is_exported

    if args.checkpoint is None:
        if not is_exported(args.config):
            raise UserValueError(f'a checkpoint is needed to test {args.config}; an exported file alone is enough')
        args.checkpoint = args.config
    cfg = prepare(args)
    if getattr(args, 'data', None):
        from mmdet.apis.own_val import on_data, trained_classes

        on_data(cfg, args.data, args.split, trained_classes(cfg, args.checkpoint))
    if '://' not in args.checkpoint and not Path(args.checkpoint).exists():
        raise UserFileError(f'There is no checkpoint {args.checkpoint!r}.')
    _name_unread(args, ONLY_TRAINING | {'load_from', 'resume'}, 'testing')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if is_exported(args.checkpoint):
        from mmdet.export.exported_detector import in_the_place_of

        cfg.load_from = None
        in_the_place_of(cfg, args.checkpoint)
    if args.show or args.show_dir:
        _draw_predictions(cfg, args)
    if args.tta:
        _use_tta(cfg)
    if args.optimize:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='FastInferenceHook', optimize=args.optimize)]
    require_known_names(cfg, print_once)
    runner = build_runner(cfg)
    if args.out:
        from mmdet.registry import METRICS

        runner.test_evaluator.metrics.append(METRICS.build(dict(type='DumpDetResults', out_file_path=args.out)))
    measure(runner)


def _draw_predictions(cfg: Any, args: argparse.Namespace) -> None:
    from mmdet.engine.hooks import trigger_visualization_hook

    if not (cfg.get('default_hooks') or {}).get('visualization'):
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'visualization': dict(type='DetVisualizationHook')}
    trigger_visualization_hook(cfg, args)


def _use_tta(cfg: Any) -> None:
    """The config's own tta_model and tta_pipeline, or the image and its mirror image, merged with NMS."""
    import copy

    from mmdet.config import innermost_datasets

    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
    datasets = [dataset for _, dataset in innermost_datasets(cfg, 'test_dataloader')]
    if 'tta_pipeline' not in cfg:
        pipeline = copy.deepcopy(datasets[0]['pipeline'])
        pack = pipeline[-1]
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        pack['meta_keys'] = tuple(dict.fromkeys((*pack.get('meta_keys', keys), 'flip', 'flip_direction')))
        flips = dict(
            type='TestTimeAug',
            transforms=[[dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)], [pack]],
        )
        cfg.tta_pipeline = [*pipeline[:-1], flips]
    for dataset in datasets:
        dataset['pipeline'] = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def doctor(args: argparse.Namespace) -> int:
    """``tools/dataset_doctor.py``"""
    from mmdet.checks import as_html, as_json, as_text, examine
    from mmdet.config import load_config

    diagnosis = examine(load_config(args.config, args.cfg_options), not args.no_images, args.workers)
    print(as_text(diagnosis, args.limit))
    for path, write in ((args.json, as_json), (args.html, as_html)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(write(diagnosis), encoding='utf-8')
    return int(diagnosis.has_errors)
