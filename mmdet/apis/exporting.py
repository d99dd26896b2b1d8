"""What ``mmdet export`` does: a file of another format, and the proof that it finds what the detector finds."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.config import building
from mmdet.engine.console import quiet_for_now
from mmdet.errors import UserRuntimeError, UserValueError
from mmdet.export.exported_detector import MAPS, ExportedDetector, fit_pipeline, in_the_place_of
from mmdet.export.form import Exportable, score_threshold
from mmdet.export.formats import FORMATS, Request, options_for, write_file
from mmdet.export.metadata import Metadata
from mmdet.export.parting import where_they_part
from mmdet.export.proof import Difference, compare, compare_maps, least_score, least_share, tolerances
from mmdet.structures import DetDataSample
from mmdet.version import __version__

from .inference import compose, inference_pipeline, init_detector, list_inputs

SIZE = (640, 640)
MOST_DETECTIONS = 300
"""Where a config says neither."""


@dataclass
class Options:
    """How a detector is exported.

    Attributes:
        format, precision: A name of ``mmdet.export.FORMATS``, and float32, float16 or int8.
        out: The file; by default beside the work folders, named after the config.
        size: Height and width of the input. By default that of a pipeline that makes pictures of one size, else 640 x
            640, and dynamic.
        dynamic_batch, dynamic_size: Whether any number of pictures, and any height and width, are taken.
        preprocess: Whether the file normalises.
        nms: Whether it suppresses.
        max_detections: Places for detections where the config does not say.
        pictures: Files, folders or arrays to check with, and to calibrate with; noise if there are none.
        check_pictures: Most pictures to check with.
        tolerances: Of scores and of boxes in pixels; by the precision if None.
        evaluate: Whether both are measured on the test data of the config.
    """

    format: str = 'onnx'
    precision: str = 'float32'
    out: str | Path | None = None
    size: Sequence[int] | None = None
    batch: int = 1
    dynamic_batch: bool = False
    dynamic_size: bool | None = None
    preprocess: bool = True
    nms: bool = True
    max_detections: int | None = None
    pictures: Any = None
    check_pictures: int = 4
    calibration_pictures: int = 64
    tolerances: tuple[float, float] | None = None
    evaluate: bool = False
    device: str = 'cpu'
    cfg_options: dict = field(default_factory=dict)


@dataclass
class Exported:
    """A file and what was found out about it.

    Attributes:
        path: What can be opened.
        difference: Of its detections from those of the detector; None where it cannot be run.
        metrics: Of the detector and of the file on the test data, if asked for.
    """

    path: Path
    metadata: Metadata
    difference: Difference | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)


def export_detector(
    config: Any,
    checkpoint: str | None = None,
    options: Options | None = None,
    say: Callable[[str], Any] = print,
) -> Exported:
    """Write a detector as a file of another format, run the file, and compare.

    Args:
        config: A path, a name, or a config.
        say: What to do with each line for the person who waits.

    Raises:
        RuntimeError: the file's detections differ by more than is tolerated; the message names the layers between
            which they part. The file stays.
    """
    options = options or Options()
    if options.format not in FORMATS:
        raise UserValueError(f'there is no format {options.format!r}: {", ".join(FORMATS)}')
    detector = init_detector(config, checkpoint, device=options.device, cfg_options=options.cfg_options or None)
    cfg = detector.cfg
    size, dynamic_size = input_size(cfg, options)
    kind = FORMATS[options.format]
    nms = options.nms and kind.suppresses
    if options.nms and not nms:
        say(f'{options.format} has no loops and no suppression: it gives all candidates, to be suppressed outside')
    form = Exportable(
        detector,
        options.preprocess,
        nms,
        options_for(options.format, options.max_detections or MOST_DETECTIONS),
        None if dynamic_size else size,
    )
    if options.precision == 'float16':
        form.halve()
    metadata = Metadata(
        version=__version__,
        format=options.format,
        precision=options.precision,
        config=cfg.pretty_text,
        classes=list(detector.dataset_meta.get('classes') or ()),
        size=list(size),
        batch=options.batch,
        dynamic_batch=options.dynamic_batch,
        dynamic_size=dynamic_size,
        divisor=divisor_of(detector),
        preprocess=options.preprocess,
        fill=form.fill,
        outputs=form.outputs,
        masks=form.masks,
        nms=form.outside,
        score_thr=score_threshold(detector),
    )
    pictures = network_inputs(cfg, options, size, dynamic_size)
    calibration = (
        [each for each, _ in fitted(pictures[: options.calibration_pictures], metadata, form)]
        if options.precision == 'int8'
        else []
    )
    path = Path(options.out) if options.out else default_path(cfg, options)
    with torch.no_grad():
        written = write_file(form, Request(path, metadata, size, calibration, say))
    say(f'wrote {written} ({size_in_mb(written):.1f} MB)')
    found = Exported(written, metadata)
    if kind.runs or options.format == 'tensorrt':
        found.difference = check(detector, form, found, pictures[: options.check_pictures], options, say)
    if options.evaluate:
        found.metrics = evaluate_both(cfg, checkpoint, found, say)
    return found


def input_size(cfg: Any, options: Options) -> tuple[tuple[int, int], bool]:
    """Height and width of the input, and whether they are dynamic."""
    if options.size is not None:
        height, width = options.size
        return (int(height), int(width)), bool(options.dynamic_size)
    for transform in reversed(inference_pipeline(cfg)):
        fixed = transform['type'] in ('Pad', 'mmdet.Pad') or not transform.get('keep_ratio', True)
        given = transform.get('size') or transform.get('scale')
        if fixed and isinstance(given, (tuple, list)):
            return (int(given[1]), int(given[0])), bool(options.dynamic_size)
    return SIZE, options.dynamic_size is not False


def divisor_of(detector: nn.Module) -> int:
    """What sides of a dynamic size are multiples of: at least 32, and what patches and windows of a network need."""
    backbone = getattr(detector, 'backbone', None)
    patch = int(getattr(backbone, 'patch_size', 1)) * int(getattr(backbone, 'num_windows', 1))
    return math.lcm(max(int(getattr(detector.data_preprocessor, 'pad_size_divisor', 1)), 32), patch)


def default_path(cfg: Any, options: Options) -> Path:
    """A file in the current folder that is named after the config."""
    stem = Path(cfg.filename).stem if cfg.filename else 'detector'
    precision = '' if options.precision == 'float32' else f'.{options.precision}'
    middle = '.aoti' if options.format == 'aotinductor' else ''
    return Path(f'{stem}{precision}{middle}{FORMATS[options.format].suffix}')


def size_in_mb(path: Path) -> float:
    """Of a file with those that belong to it, or of a folder."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob('*') if part.is_file()) / 1e6
    parts = [path, path.with_suffix('.bin')] if path.suffix == '.xml' else [path]
    return sum(part.stat().st_size for part in parts) / 1e6


def network_inputs(cfg: Any, options: Options, size: Sequence[int], dynamic_size: bool) -> list[dict]:
    """What the test pipeline makes of the pictures to check with; of noise where none are given."""
    pipeline = inference_pipeline(cfg)
    if not dynamic_size:
        fit_pipeline(pipeline, *size)
    with building(cfg):
        transform = compose(pipeline)
        found = []
        for index, picture in enumerate(pictures_of(cfg, options)):
            given = {'img_path': picture} if isinstance(picture, str) else {'img': picture}
            found.append(transform({**given, 'img_id': index}))
    return found


def pictures_of(cfg: Any, options: Options) -> list:
    """Those that are given, else of the test data set, else noise."""
    most = options.calibration_pictures if options.precision == 'int8' else options.check_pictures
    if options.pictures is not None:
        return list_inputs(options.pictures)[:most]
    from mmdet.apis.offline import dataset_of

    try:
        with quiet_for_now(), building(cfg):
            dataset = dataset_of(copy.deepcopy(cfg), test_mode=True)
            paths = [dataset.get_data_info(i)['img_path'] for i in range(min(most, len(dataset)))]
        if paths and all(Path(path).is_file() for path in paths):
            return paths
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError):
        pass  # its files are elsewhere
    random = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (480, 640, 3), generator=random, dtype=torch.uint8).numpy() for _ in range(2)]


def fitted(pictures: Sequence[dict], metadata: Metadata, form: Exportable) -> list[tuple[Tensor, DetDataSample]]:
    """Each picture as the file takes it, ``(1, 3, H, W)``, with its sample."""
    from mmdet.export.exported_detector import fit_images

    found = []
    for picture in pictures:
        image, sample = picture['inputs'][None].float(), picture['data_samples']
        image = fit_images(image, [sample], metadata, 'the file')
        if not metadata.preprocess:
            image = form.normalise(image)
        found.append((image, sample))
    return found


def check(
    detector: nn.Module,
    form: Exportable,
    found: Exported,
    pictures: Sequence[dict],
    options: Options,
    say: Callable[[str], Any],
) -> Difference:
    """Run the file and the detector on the same inputs.

    Raises:
        RuntimeError: as :func:`export_detector`.
    """
    from mmdet.export.runtime import open_file

    session = open_file(found.path, options.device)
    total = Difference()
    allowed = tolerances(found.metadata.precision)
    allowed = (*(options.tolerances or allowed[:2]), allowed[2])
    worst: tuple[float, Tensor | None] = (-1.0, None)
    inputs = fitted(pictures, found.metadata, form)
    for image, _ in inputs:
        ours = reference(detector, form, image, found.metadata)
        outputs = session(image)
        difference = difference_of(ours, outputs, found.metadata, tuple(image.shape[-2:]))
        worst = max(worst, (difference.badness(*allowed), image), key=lambda pair: pair[0])
        total = total.joined(difference)
    say(f'checked with {len(inputs)} pictures against torch: {total}')
    if total.within(*allowed):
        return total
    assert worst[1] is not None
    if found.metadata.precision == 'int8':
        parts = 'In 8 bits all layers differ: calibrate with more pictures (--pictures), or try float16.'
    else:
        parts = where_they_part(form, found.path, worst[1])
    raise UserRuntimeError(
        f'{found.path} does not find what the detector finds, within {allowed[0]} for scores, {allowed[1]} px for '
        f'boxes and {allowed[2]:.0%} of the pixels of masks: {total}. {parts}'
    )


def difference_of(
    samples: Sequence[DetDataSample], outputs: dict[str, Tensor], metadata: Metadata, size: tuple[int, int]
) -> Difference:
    """Of what a detector finds in inputs of a size and the outputs of a file."""
    total = Difference()
    if 'boxes' in outputs:
        ours = [sample.pred_instances.cpu() for sample in samples]
        theirs = readable(outputs, metadata, size)
        least = max(metadata.score_thr, least_score(metadata.precision, ours))
        share = least_share(metadata.precision)
        total = compare(ours, theirs, limit_of(outputs, metadata), least=least, share=share)
    for name in set(MAPS) & set(outputs):
        known = torch.cat([getattr(sample, MAPS[name]).sem_seg for sample in samples]).cpu()
        total = total.joined(compare_maps(known, outputs[name]))
    return total


def reference(detector: nn.Module, form: Exportable, image: Tensor, metadata: Metadata) -> list[DetDataSample]:
    """What the detector itself finds in an input of the file."""
    images = (form.normalise(image) if metadata.preprocess else image).to(form.device)
    size = tuple(images.shape[-2:])
    names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    samples = [
        DetDataSample(metainfo=dict(dict.fromkeys(names, size), scale_factor=(1.0, 1.0), img_id=i))
        for i in range(len(images))
    ]
    with torch.no_grad():
        return detector(images, samples, mode='predict')


def limit_of(outputs: dict[str, Tensor], metadata: Metadata) -> int:
    """Most detections of an image."""
    return outputs['boxes'].shape[1] if metadata.nms is None else int(metadata.nms['max_per_img'])


def readable(outputs: dict[str, Tensor], metadata: Metadata, size: tuple[int, int] | None = None) -> list[InstanceData]:
    """The detections of each image in the outputs of a file; with the ``size`` of its input, masks have that, too."""
    from mmdet.export.exported_detector import instances_of, whole_masks

    rows = range(len(outputs['boxes']))
    found = [instances_of({name: value[b] for name, value in outputs.items()}, metadata) for b in rows]
    if metadata.masks and size is not None:
        for image in found:
            image.masks = whole_masks(image, metadata.masks, size, size, size)
    return found


def evaluate_both(
    cfg: Any, checkpoint: str | None, found: Exported, say: Callable[[str], Any]
) -> dict[str, dict[str, float]]:
    """The metrics of the detector and of the file on the test data of the config."""
    metrics = {}
    for name, file in (('torch', None), (found.metadata.format, found.path)):
        metrics[name] = evaluate(cfg, checkpoint, file)
    for key in metrics['torch']:
        values = [metrics[name].get(key, float('nan')) for name in metrics]
        say(f'{key:24} torch {values[0]:.4f}   {found.metadata.format} {values[1]:.4f}')
    return metrics


def evaluate(cfg: Any, checkpoint: str | None, file: str | Path | None = None) -> dict[str, float]:
    """The metrics of a checkpoint, or of an exported file, on the test data of a config."""
    from .launch import build_runner

    cfg = copy.deepcopy(cfg)
    cfg.load_from = None if file else checkpoint
    cfg.console = 'quiet'  # the caller says what it is about
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'console': None}
    if file:
        in_the_place_of(cfg, str(file))
    # not in the folder of a training, whose config would be overwritten by that of the file
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cfg.work_dir:
        found = build_runner(cfg).test()
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


__all__ = ['Exported', 'ExportedDetector', 'Options', 'export_detector']
