"""A detector from a config and a checkpoint, and its detections on pictures."""

from __future__ import annotations

import asyncio
import copy
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import nn

from mmdet.checks import load_with_options, require_known_options
from mmdet.config import building, innermost_datasets, is_name, is_v2, resolve_config, translate_v2
from mmdet.config import stored_config as config_in_text
from mmdet.engine.acceleration import optimize_for_inference
from mmdet.engine.weights import load_weights
from mmdet.errors import UserFileError, UserTypeError, UserValueError
from mmdet.registry import DATASETS, MODELS, UnimportedNameError
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.pictures import PICTURE_SUFFIXES, array_of
from mmdet.utils.prompts import split_names
from mmdet.visualization import get_palette

IMAGE_SUFFIXES = PICTURE_SUFFIXES
ANNOTATION_LOADERS = ('LoadAnnotations', 'LoadPanopticAnnotations', 'LoadTrackAnnotations')
IMAGE_LOADERS = ('LoadImageFromFile', 'LoadImageFromNDArray', 'InferencerLoader')

ImagesType = str | os.PathLike | np.ndarray | torch.Tensor | Sequence[str | os.PathLike | np.ndarray | torch.Tensor]


def init_detector(
    config: str | Path | Config,
    checkpoint: str | None = None,
    palette: str = 'none',
    device: str = 'cuda:0',
    cfg_options: dict | None = None,
    optimize: str | None = None,
    compile: bool | dict = False,
    pretrained: bool = True,
) -> nn.Module:
    """A detector in evaluation mode, with ``cfg`` and ``dataset_meta`` (``classes`` and ``palette``) as attributes.

    Args:
        config: Also the name of one of ours, ``'rtmdet-tiny'``.
        checkpoint: A file or URL. Without it a config that is given by its name has its published weights, another one
            random weights.
        palette: Colours for drawing: coco, voc, citys or random; 'none' for those of the checkpoint or the data set.
        device: A CUDA device gives way to the CPU, with a note, where there is none.
        optimize: ``'fuse'`` or ``'bf16'`` for a faster detector that cannot be trained, see
            :func:`mmdet.engine.acceleration.optimize_for_inference`.
        compile: Compile backbone, neck and heads: True, or a dict of options of ``torch.compile``.
        pretrained: False for random weights where a name is given.

    Raises:
        NoWeightsError: no weights are published for the name.
    """
    checkpoint = published_weights(config, checkpoint, pretrained)
    if isinstance(config, Config):
        config = as_config(config)
        if cfg_options:
            config.merge_from_dict(cfg_options)
            require_known_options(config, cfg_options)
    elif isinstance(config, (str, Path)):
        config = load_with_options(config, cfg_options)
    else:
        raise UserTypeError(f'config must be a path or a Config, not {type(config).__name__}')
    content = checkpoint and read_checkpoint(checkpoint)
    return build_detector(config, content, palette, device, source=checkpoint, optimize=optimize, compile=compile)


def published_weights(model: Any, checkpoint: str | None, pretrained: bool = True) -> str | None:
    """The weights that are given, or those published for a model that is named; a config file comes without any.

    Raises:
        NoWeightsError: there are none for the name.
    """
    if checkpoint is not None or not pretrained or not isinstance(model, (str, Path)) or not is_name(model):
        return checkpoint
    from mmdet.zoo import weights_of

    return weights_of(resolve_config(model).stem).url


def build_detector(
    cfg: Any,
    checkpoint: dict | None,
    palette: str = 'none',
    device: str | None = None,
    source: Any = None,
    optimize: str | None = None,
    compile: bool | dict = False,
) -> nn.Module:
    """As :func:`init_detector`, from a config and the content of a checkpoint; ``source`` is its name in messages."""
    from mmengine.model import revert_sync_batchnorm

    if not isinstance(cfg.get('model'), dict):
        raise UserValueError(f'the config of the detector has no model, but {cfg.get("model")!r:.200}')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_cfg = copy.deepcopy(cfg.model)
    for part in _with_weights(model_cfg):
        part.pop('pretrained', None)
        if 'init_cfg' in part:
            part['init_cfg'] = None  # the checkpoint has these weights
    with building(cfg):
        model = revert_sync_batchnorm(MODELS.build(model_cfg))
    if checkpoint is None:
        print_log('No checkpoint is given: the weights of the detector are random.', logger='current', level=30)
    else:
        report = load_weights(model, checkpoint, source=source or 'the checkpoint')
        if report.missing or report.unexpected or report.wrong_shape:
            print_log(str(report), logger='current', level=30)
    model.dataset_meta = dataset_meta(cfg, checkpoint, palette)
    model.cfg = cfg
    return optimize_for_inference(model.to(available_device(device)).eval(), optimize, compile)


def _with_weights(model_cfg: dict) -> list[dict]:
    """The parts of a model that may name a file of weights: itself, its backbone and the same of a detector inside."""
    inner = model_cfg.get('detector')
    backbones = [part.get('backbone') for part in (model_cfg, inner) if isinstance(part, dict)]
    return [part for part in (model_cfg, *backbones) if isinstance(part, dict)]


def available_device(device: str | None) -> str:
    """``device``, the best one there is for ``None``, or 'cpu' where CUDA is asked for and absent."""
    if device is None:
        from mmengine.device import get_device

        return get_device()
    if str(device).startswith('cuda') and not torch.cuda.is_available():
        print_log(f'{device} is not there, since torch sees no CUDA device: the CPU is used.', logger='current')
        return 'cpu'
    return device


def dataset_meta(cfg: Any, checkpoint: dict | None, palette: str = 'none') -> dict:
    """Names and colours of the classes: of the checkpoint, else of the config's test set."""
    stored = _part(checkpoint, 'meta')
    metas = stored.get('dataset_meta')
    of_first = metas[0] if metas and isinstance(metas, (list, tuple)) else metas  # of those with different classes
    meta = {str(key).lower(): value for key, value in (of_first if isinstance(of_first, dict) else {}).items()}
    if 'classes' not in meta and 'CLASSES' in stored:
        meta['classes'] = stored['CLASSES']
    _check_meta(meta)
    try:
        with building(cfg):
            configured = _configured_meta(cfg)
    except UnimportedNameError:  # a data set of somebody's own; the names of its classes are in the checkpoint
        if meta.get('classes') is None:
            raise
        configured = {}
    if meta.get('classes') is None:
        meta = configured
    elif 'palette' not in meta and tuple(configured.get('classes') or ()) == tuple(meta['classes']):
        meta['palette'] = configured.get('palette')
    if palette != 'none':
        get_palette(palette, 1)  # complains of a name that none has
        meta['palette'] = palette
    elif meta.get('palette') is None:
        meta['palette'] = 'random'
    return meta


def _part(content: Any, key: str) -> dict:
    """A dict within the content of a checkpoint, empty where there is none."""
    part = content.get(key) if isinstance(content, dict) else None
    return part if isinstance(part, dict) else {}


def _check_meta(meta: dict) -> None:
    for key in ('classes', 'palette'):
        if isinstance(meta.get(key), (np.ndarray, torch.Tensor)):
            meta[key] = meta[key].tolist()
    classes, palette = meta.get('classes'), meta.get('palette')
    if classes is not None and not (isinstance(classes, (list, tuple)) and all(isinstance(x, str) for x in classes)):
        raise UserValueError('the class names in the checkpoint (meta.dataset_meta.classes) are no list of text')

    def is_color(color: Any) -> bool:
        numbers = isinstance(color, (list, tuple)) and all(isinstance(x, (int, float)) for x in color)
        return numbers and len(color) == 3 and all(0 <= x <= 255 for x in color)

    if palette is None or isinstance(palette, str) or is_color(palette):
        return
    if not (isinstance(palette, (list, tuple)) and all(map(is_color, palette))):
        raise UserValueError('the colours in the checkpoint (meta.dataset_meta.palette) are no list of RGB in 0 to 255')


def _configured_meta(cfg: Any) -> dict:
    dataset = next((found for _, found in innermost_datasets(cfg, 'test_dataloader')), None)
    if dataset is None:
        return {}
    kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    meta = {key.lower(): value for key, value in getattr(kind, 'METAINFO', {}).items()}
    own = {key.lower(): value for key, value in (dataset.get('metainfo') or {}).items()}
    if 'classes' in own and 'palette' not in own and tuple(own['classes']) != tuple(meta.get('classes') or ()):
        meta.pop('palette', None)
    return {**meta, **own}


def as_config(values: Config | dict) -> Config:
    """A copy of a config that is not in a file; one of MMDetection 2.x is translated."""
    values = copy.deepcopy(values if isinstance(values, Config) else Config(values, format_python_code=False))
    if is_v2(values):
        values = Config(translate_v2(values._cfg_dict.to_dict())[0], format_python_code=False)
    return values


def stored_config(checkpoint: dict, source: str) -> Config:
    """The config with which a checkpoint was trained.

    Raises:
        ValueError: the checkpoint carries none.
    """
    text = _part(_part(checkpoint, 'message_hub'), 'runtime_info').get('cfg') or _part(checkpoint, 'meta').get('cfg')
    if not isinstance(text, str):
        raise UserValueError(
            f'{source} carries no config; give the config file as the model, and {source} as its weights'
        )
    return config_in_text(text, source)


def inference_pipeline(cfg: Any) -> list[dict]:
    """The transforms of the test pipeline for pictures without annotations, given as paths or arrays.

    Raises:
        ValueError: the pipeline loads no image.
    """
    pipeline = []
    loads = False
    for transform in get_test_pipeline_cfg(cfg):
        kind = transform['type'] if isinstance(transform['type'], str) else transform['type'].__name__
        kind = kind.rpartition('.')[2]
        if kind in ANNOTATION_LOADERS:
            continue
        transform = copy.deepcopy(transform)  # a ConfigDict imports the classes that lazy configs name
        if kind in IMAGE_LOADERS:
            loads = True
            transform['type'] = 'mmdet.InferencerLoader'
        pipeline.append(transform)
    if not loads:
        raise UserValueError(f'the test pipeline has none of {", ".join(IMAGE_LOADERS)}, so it loads no picture')
    return pipeline


def build_test_pipeline(cfg: Any) -> Callable:
    """The whole test pipeline of a config, annotations included; it is called with a dict that has ``img_path``."""
    with building(cfg):
        return compose([copy.deepcopy(transform) for transform in get_test_pipeline_cfg(cfg)])


def build_inference_pipeline(cfg: Any) -> Callable:
    """What :func:`inference_pipeline` lists, built and chained."""
    with building(cfg):
        return compose(inference_pipeline(cfg))


def list_inputs(inputs: ImagesType) -> list:
    """Pictures as a list of paths, URLs and arrays; a folder becomes the pictures in it, in order of name.

    Pillow pictures and tensors become arrays, see :func:`mmdet.utils.pictures.array_of`.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: a folder without pictures, an empty list, or an array that is no picture.
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    found = []
    for item in inputs:
        if isinstance(item, os.PathLike):
            item = os.fspath(item)
        item = array_of(item, f'input {len(found)}')
        if isinstance(item, str) and '://' not in item:
            item = os.path.expanduser(item)
            if os.path.isdir(item):
                names = sorted(name for name in os.listdir(item) if name.lower().endswith(IMAGE_SUFFIXES))
                if not names:
                    raise UserValueError(f'folder {item!r} holds no picture ({", ".join(IMAGE_SUFFIXES)})')
                found += [os.path.join(item, name) for name in names]
                continue
            if not os.path.isfile(item):
                fault = 'is no regular file' if os.path.lexists(item) else 'does not exist'
                raise UserFileError(f'picture {item!r} {fault}')
        elif isinstance(item, np.ndarray):
            if item.ndim not in (2, 3) or 0 in item.shape:
                raise UserValueError(f'input {len(found)} is an array of shape {item.shape}, no picture (h, w, 3)')
        elif not isinstance(item, str):
            kinds = 'a path, a URL, an array, a tensor or a Pillow picture'
            raise UserTypeError(f'input {len(found)} must be {kinds}, not {type(item).__name__}')
        found.append(item)
    if not found:
        raise UserValueError('there are no pictures: the list of inputs is empty')
    return found


def inference_detector(
    model: nn.Module,
    imgs: ImagesType,
    test_pipeline: Callable | None = None,
    text_prompt: str | None = None,
    custom_entities: bool = False,
) -> DetDataSample | SampleList:
    """Detections on one picture, or a list of them for a list or a folder; boxes are in pixels of the picture.

    Args:
        imgs: As :class:`DetInferencer` takes them, which forms batches; here they pass through the network one by one.
        test_pipeline: In place of the config's. It is called with a dict that has ``img_path`` or ``img``.
        text_prompt, custom_entities: For detectors that are told what to look for.
    """
    single = not isinstance(imgs, (list, tuple)) and not (isinstance(imgs, (str, os.PathLike)) and os.path.isdir(imgs))
    if test_pipeline is None:
        test_pipeline = build_inference_pipeline(model.cfg)
    samples = []
    for index, img in enumerate(list_inputs(imgs)):
        data = {'img' if isinstance(img, np.ndarray) else 'img_path': img, 'img_id': index}
        if text_prompt:
            data.update(text=text_prompt, custom_entities=custom_entities)
        with torch.no_grad(), building(model.cfg):
            samples += model.test_step(pseudo_collate([test_pipeline(data)]))
    return samples[0] if single else samples


def as_prompt(texts: str | Sequence[str] | None) -> str | None:
    """Names as the text that detectors read: ``'cat . traffic light'``; a text stays as it is."""
    if texts is None or isinstance(texts, str):
        return texts
    empty = [name for name in texts if not isinstance(name, str) or not name.strip(' .')]
    if empty or not len(texts):
        raise UserValueError(f'texts must be names to look for, not {empty[0] if empty else texts!r}')
    if parted := [name for name in texts if len(split_names(name)) > 1]:
        raise UserValueError(f'a full stop before a space parts names, so leave it out of {parted[0]!r}')
    return ' . '.join(name.strip() for name in texts)


def require_texts(model: nn.Module, prompt: str | None) -> None:
    """A detector that reads is told what to look for, another one is not.

    Raises:
        UserValueError: it is the other way round.
    """
    reads = hasattr(model, 'language_model')
    if reads != bool(prompt and prompt.strip(' .')):
        told = 'is told by texts what to look for: give texts' if reads else 'reads no texts, its classes are fixed'
        raise UserValueError(f'{type(model).__name__} {told}')


async def async_inference_detector(model: nn.Module, imgs: ImagesType) -> DetDataSample | SampleList:
    """:func:`inference_detector` in a thread, so that the event loop goes on meanwhile."""
    return await asyncio.to_thread(inference_detector, model, imgs)


def build_visualizer(cfg: Any, meta: dict) -> Any:
    """The visualizer of a config for the classes of ``meta``, without its backends, which write into a work folder."""
    from mmdet.registry import VISUALIZERS

    visualizer = copy.deepcopy(cfg.get('visualizer') or dict(type='DetLocalVisualizer'))
    visualizer.update(vis_backends=None, name=f'inference-{uuid.uuid4()}')  # instances are kept by name
    with building(cfg):
        visualizer = VISUALIZERS.build(visualizer)
    visualizer.dataset_meta = meta
    return visualizer


def compose(pipeline: list[dict]) -> Callable:
    """Transforms built and chained."""
    from mmengine.dataset import Compose

    from mmdet.registry import TRANSFORMS

    return Compose([TRANSFORMS.build(transform) for transform in pipeline])
