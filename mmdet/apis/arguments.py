"""Command-line arguments of the tools, without importing anything heavy: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
from typing import Any

from mmdet.errors import UserValueError
from mmdet.utils.processes import end_with_parent


class DictAction(argparse.Action):
    """``--cfg-options a.b=1 c=[1,2] d="(x,y)" e=1,2`` as a dict of plain values."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, sign, text = pair.partition('=')
            if not sign or not key:
                parser.error(f'{option_string} takes KEY=VALUE pairs, not {pair!r}')
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """A number, bool, None, string, or a comma-separated (nested) list or tuple of them; quotes are dropped."""
    text = text.strip('\'"').strip()
    if not _balanced(text):
        raise UserValueError(f'the brackets of {text!r} do not match')
    if text[:1] + text[-1:] in ('()', '[]') and _balanced(text[1:-1]):
        values = [parse_value(part) for part in _split(text[1:-1])]
        return tuple(values) if text[0] == '(' else values
    parts = _split(text)
    if len(parts) > 1 or text.endswith(','):
        return [parse_value(part) for part in parts]
    return _scalar(text)


def _balanced(text: str) -> bool:
    stack = []
    for char in text:
        if char in '([':
            stack.append(')' if char == '(' else ']')
        elif char in ')]' and (not stack or stack.pop() != char):
            return False
    return not stack


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside of brackets."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in '([') - (char in ')]')
        if char == ',' and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return parts + [text[start:]] if text[start:].strip() else parts


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {'true': True, 'false': False, 'none': None}.get(text.lower(), text)


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """``640`` or ``640x480``, width first."""
    if text is None:
        return None
    sides = text.lower().split('x')
    if len(sides) > 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserValueError(f'a size is 640 or 640x480, not {text!r}')
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every tool that starts a Runner takes."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that overwrite those of the config, such as optim_wrapper.optimizer.lr=0.01 '
        'or model.backbone.out_indices="(0,1,2)"',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile backbone, neck and heads; options are those of compile in CONFIG',
    )
    parser.add_argument('--verbose', action='store_true', help='print the whole log, not the lines of a quiet console')
    parser.add_argument(
        '--log',
        nargs='+',
        choices=['tensorboard', 'wandb', 'mlflow', 'clearml'],
        help='also write numbers and pictures to these trackers',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed.launch of older PyTorch passes --local_rank, newer ones --local-rank
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_train_arguments(parser: argparse.ArgumentParser, config: str = 'config file') -> None:
    """Those of ``tools/train.py`` and ``mmdet train``; ``config`` is what to say of the first."""
    parser.add_argument('config', help=config)
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by (real batch size) / (auto_scale_lr.base_batch_size of the config)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from a checkpoint; without a path, from the newest readable one of the work dir',
    )
    add_common_arguments(parser)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``mmdet init`` and ``mmdet train DATA`` would choose themselves."""
    own = parser.add_argument_group('for a folder of data')
    own.add_argument('--model', help='name of a config, whole or short, or its file (default: rtmdet-tiny)')
    own.add_argument(
        '--weights', metavar='FILE', help='checkpoint to begin from (default: those published for the model)'
    )
    own.add_argument('--scratch', action='store_true', help='begin with random weights')
    own.add_argument('--epochs', type=int, help='how often each picture is seen')
    own.add_argument('--batch', type=int, help='pictures of a step')
    own.add_argument('--size', metavar='WxH', help='width and height that pictures are brought to fit')
    own.add_argument('--lr', type=float, help='learning rate')
    own.add_argument('--workers', type=int, help='processes that load pictures')
    own.add_argument('--seed', type=int, default=0, help='of all random numbers (default: 0)')
    own.add_argument('--val-share', type=float, default=0.2, help='validation pictures where there are none (0.2)')
    own.add_argument('--data-format', metavar='FORMAT', help='format of the data, if it is not seen rightly')


def add_test_arguments(parser: argparse.ArgumentParser, config: str = 'config file', **checkpoint: Any) -> None:
    """Those of ``tools/test.py`` and ``mmdet val``."""
    parser.add_argument('config', help=config)
    text = (
        'checkpoint file or URL, or an exported file; may be left out if an exported file is in the place of the config'
    )
    parser.add_argument('checkpoint', **{'help': text, 'nargs': '?', **checkpoint})
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this pickle file')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder, inside the work dir, for pictures with the predictions drawn')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each picture')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--optimize',
        choices=['fuse', 'bf16'],
        help='fuse: fold batch norms into convolutions; bf16: also run the network in bfloat16',
    )
    add_common_arguments(parser)


def check_test_arguments(args: argparse.Namespace) -> None:
    """Stop at a file for predictions that would not be read again."""
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        raise UserValueError(f'--out must end with .pkl or .pickle, not {args.out!r}')


def add_doctor_arguments(parser: argparse.ArgumentParser, config: str = 'config file') -> None:
    """Those of ``tools/dataset_doctor.py`` and ``mmdet doctor``."""
    parser.add_argument('config', help=config)
    parser.add_argument('--json', metavar='FILE', help='also write everything that was found as JSON')
    parser.add_argument('--html', metavar='FILE', help='also write a page with the worst pictures drawn')
    parser.add_argument('--limit', type=int, default=10, help='problems of each kind to print')
    parser.add_argument('--no-images', action='store_true', help='do not open the images')
    parser.add_argument('--workers', type=int, default=4, help='threads that read images')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as for training')


def export_local_rank(args: argparse.Namespace) -> None:
    """Put ``--local_rank`` where torch looks for it; a process of a launcher ends with it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher != 'none':
        # torchrun starts its ranks from its main thread; the daemons of srun and mpirun end theirs themselves
        end_with_parent(at_once='TORCHELASTIC_RUN_ID' in os.environ)


def add_export_arguments(parser: argparse.ArgumentParser, config: str = 'config file') -> None:
    """Those of ``tools/deployment/export.py`` and ``mmdet export``."""
    parser.add_argument('config', help=config)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument(
        '--format',
        default='onnx',
        choices=['onnx', 'openvino', 'tensorrt', 'pt2', 'aotinductor', 'executorch', 'coreml'],
        help='of the file (default: onnx)',
    )
    parser.add_argument('--precision', default='float32', choices=['float32', 'float16', 'int8'])
    parser.add_argument('--out', metavar='FILE', help='the file (default: in this folder, named after the config)')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the input (default: what the test pipeline makes; any size where it makes several)',
    )
    parser.add_argument('--batch', type=int, default=1, help='pictures of an input (default: 1)')
    parser.add_argument('--dynamic-batch', action='store_true', help='any number of pictures')
    parser.add_argument('--dynamic-size', action='store_true', default=None, help='any height and width')
    parser.add_argument(
        '--no-preprocess', action='store_true', help='the input is normalised already, not pixels from 0 to 255'
    )
    parser.add_argument('--no-nms', action='store_true', help='leave the suppression of overlaps out')
    parser.add_argument('--max-detections', type=int, help='places for detections where the config does not say (300)')
    parser.add_argument(
        '--pictures',
        nargs='+',
        metavar='PATH',
        help='files or folders to check and to calibrate with (default: of the test data)',
    )
    parser.add_argument('--check-pictures', type=int, default=4, help='most pictures to check with (default: 4)')
    parser.add_argument(
        '--tolerances',
        nargs=2,
        type=float,
        metavar=('SCORE', 'PIXELS'),
        help='the most that scores and boxes may differ (default: 0.001 and 0.1; more for float16 and int8)',
    )
    parser.add_argument('--eval', action='store_true', help='measure both on the test data of the config')
    parser.add_argument('--device', default='cpu', help='where the detector runs (default: cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as for training')


def add_benchmark_arguments(parser: argparse.ArgumentParser, config: str = 'config file') -> None:
    """Those of ``mmdet benchmark``."""
    parser.add_argument('config', help=config)
    parser.add_argument('files', nargs='+', metavar='FILE', help='checkpoints and exported files')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'), help='of a dynamic input (640 640)')
    parser.add_argument('--runs', type=int, default=20, help='timed runs (default: 20)')
    parser.add_argument('--threads', type=int, help='of the CPU (default: as torch has it)')
    parser.add_argument('--no-eval', action='store_true', help='do not measure on the test data')
    parser.add_argument('--device', default='cpu', help='where it runs (default: cpu)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as for training')


def name_and_score(text: str) -> tuple[str, float]:
    """``name=score``."""
    name, sign, value = text.rpartition('=')
    try:
        return name.strip(), float(value if sign else '')
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=SCORE, such as cat=0.5') from None


def add_texts_argument(parser: argparse.ArgumentParser) -> None:
    """``--texts``, see :func:`texts_of`."""
    parser.add_argument('--texts', nargs='+', help="names to look for, for detectors that read, or 'cat . dog .'")


def texts_of(args: argparse.Namespace) -> str | list[str] | None:
    """What ``--texts`` says: names, or one text that may have several."""
    return args.texts[0] if args.texts and len(args.texts) == 1 else args.texts


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``mmdet label`` and ``tools/auto_label.py`` but the folder and the model."""
    parser.add_argument('--weights', metavar='FILE', help='checkpoint, URL or hf://owner/repo')
    parser.add_argument('--out', default='labels', metavar='FOLDER', help='folder to write to (labels)')
    add_texts_argument(parser)
    parser.add_argument('--sentence', action='store_true', help='texts are a sentence, whose nouns are looked for')
    parser.add_argument('--chunked-size', type=int, help='names that are read at a time, where all are too many')
    parser.add_argument(
        '--threshold', '--score-thr', dest='score_thr', type=float, default=0.3, help='surer ones become labels (0.3)'
    )
    parser.add_argument('--class-thr', type=name_and_score, nargs='+', metavar='NAME=SCORE', help='of single classes')
    parser.add_argument('--class-thresholds', metavar='FILE', help='JSON file of thresholds by class')
    parser.add_argument('--nms-thr', type=float, default=0.5, help='of boxes that overlap more one stays (0.5)')
    parser.add_argument(
        '--batch', '--batch-size', dest='batch_size', type=int, default=1, help='pictures for the network together'
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the best one that there is)')
    parser.add_argument('--no-page', action='store_true', help='draw nothing')
    parser.add_argument(
        '--save-as',
        nargs='+',
        choices=('coco', 'yolo', 'voc', 'cvat', 'label-studio', 'labelme', 'csv'),
        metavar='FORMAT',
        help='write them as %(choices)s too',
    )
