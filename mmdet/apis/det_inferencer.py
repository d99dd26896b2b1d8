"""Detections on many pictures: batches, drawings and JSON files."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer

from mmdet.config import building, config_files, load_config
from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import INFERENCERS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import INSTANCE_OFFSET, bitmaps_of, encode_mask_results, mask2bbox
from mmdet.utils import resolve_score_thresholds
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.output_names import OutputNames
from mmdet.utils.pictures import as_picture, read_picture
from mmdet.utils.score_thresholds import ScoreThresholds
from mmdet.visualization.pictures import image_loader, load_rgb
from mmdet.visualization.text import DRAWING
from mmdet.visualization.window import require_display

from .inference import (
    ImagesType,
    as_config,
    build_detector,
    build_inference_pipeline,
    build_visualizer,
    list_inputs,
    published_weights,
    stored_config,
)

WITHOUT_WINDOW = 'leave out show; out_dir=DIR writes the pictures to a folder'
# Of all inferencers, so that one can be copied and pickled.
_COUNTING, _BAR = threading.Lock(), threading.Lock()
VOID = 0  # id of unlabelled pixels in panoptic pictures, as in COCO's format


@INFERENCERS.register_module()
class DetInferencer(BaseInferencer):
    """Runs a detector on pictures. Threads may share it.

    Args:
        model: Config, config file, or the name of a config file below ``configs/`` (``retinanet_r50_fpn_1x_coco``).
            Without it the config is the one that ``weights`` carry.
        weights: Checkpoint file or URL; by default those published for a model that is given by its name.
        device: The best one that there is by default.
        palette: Colours: coco, voc, citys, random, or 'none' for those of the weights or the config.
        show_progress: A progress bar with the time left.
        optimize, compile, pretrained: As in :func:`init_detector`.

    Example:
        >>> inferencer = DetInferencer('configs/retinanet/retinanet_r50_fpn_1x_coco.py', 'retinanet.pth')
        >>> inferencer('pictures/', batch_size=4, out_dir='outputs/')['predictions'][0]['bboxes']
    """

    preprocess_kwargs: set = set()
    forward_kwargs: set = set()
    visualize_kwargs: set = {
        'return_vis',
        'show',
        'wait_time',
        'draw_pred',
        'pred_score_thr',
        'img_out_dir',
        'no_save_vis',
    }
    postprocess_kwargs: set = {'print_result', 'pred_out_dir', 'return_datasamples', 'no_save_pred'}

    def __init__(
        self,
        model: str | Path | Config | dict | None = None,
        weights: str | None = None,
        device: str | None = None,
        scope: str | None = 'mmdet',
        palette: str = 'none',
        show_progress: bool = True,
        optimize: str | None = None,
        compile: bool | dict = False,
        pretrained: bool = True,
    ) -> None:
        self.num_visualized_imgs = 0
        self.num_predicted_imgs = 0
        self._num_given = 0
        self.palette = palette
        self.scope = scope
        self.show_progress = show_progress
        self.seconds = dict.fromkeys(('read', 'model', 'draw'), 0.0)
        self._names = OutputNames(by_stem=True)
        init_default_scope(scope or 'mmdet')
        if model is None and weights is None:
            raise UserValueError('DetInferencer needs a model, or weights that carry the config of one')
        weights = published_weights(model, weights, pretrained)
        checkpoint = None if weights is None else read_checkpoint(weights)
        cfg = stored_config(checkpoint, str(weights)) if model is None else _as_config(model)
        self.cfg = cfg
        self.model = build_detector(
            cfg, checkpoint, palette, device, source=weights, optimize=optimize, compile=compile
        )
        self.pipeline = self._init_pipeline(cfg)
        self.collate_fn = self._init_collate(cfg)
        self.visualizer = self._init_visualizer(cfg)

    def _init_pipeline(self, cfg: Any) -> Any:
        return build_inference_pipeline(cfg)

    def _get_transform_idx(self, pipeline_cfg: Iterable[dict], name: str | type | Iterable[str | type]) -> int:
        """Place of the first transform whose type is ``name``, or one of several, with or without scope; else -1."""
        names = {name} if isinstance(name, (str, type)) else set(name)
        for index, transform in enumerate(pipeline_cfg):
            kind = transform['type']
            if kind in names or (isinstance(kind, str) and kind.rpartition('.')[2] in names):
                return index
        return -1

    def _init_collate(self, cfg: Any) -> Any:
        if 'collate_fn' in (cfg.get('test_dataloader') or {}):
            with building(cfg):
                return super()._init_collate(cfg)
        return pseudo_collate

    def _init_visualizer(self, cfg: Any) -> Visualizer:
        return build_visualizer(cfg, self.model.dataset_meta)

    @staticmethod
    def list_models(scope: str | None = 'mmdet', patterns: str = '.*') -> list[str]:
        """Names of configs that match a regular expression, as the constructor takes them."""
        return [name for name in config_files() if re.match(patterns, name)]

    def _inputs_to_list(self, inputs: ImagesType) -> list:
        return list_inputs(inputs)

    def preprocess(self, inputs: Iterable, batch_size: int = 1, **kwargs: Any) -> Iterator[tuple[list, dict]]:
        """Batches: what was given, and what the network takes."""
        if batch_size < 1:
            raise UserValueError(f'batch_size must be at least 1, not {batch_size}')
        inputs = list(inputs)
        for start in range(0, len(inputs), batch_size):
            chunk = inputs[start : start + batch_size]
            with building(self.cfg):
                batch = self.collate_fn([self._load(item) for item in chunk])
            yield chunk, batch

    def _load(self, item: Any) -> dict:
        started = time.perf_counter()
        data = self.pipeline(item)
        self._add_seconds('read', started)
        if data is None:
            raise UserValueError(f'the test pipeline returned nothing for {_describe(item)}')
        return data

    def _add_seconds(self, what: str, started: float) -> None:
        with _COUNTING:
            self.seconds[what] += time.perf_counter() - started

    @torch.no_grad()
    def forward(self, inputs: dict, **kwargs: Any) -> list[DetDataSample]:
        started = time.perf_counter()
        with building(self.cfg):
            predictions = self.model.test_step(inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._add_seconds('model', started)
        return predictions

    def __call__(
        self,
        inputs: ImagesType,
        batch_size: int = 1,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0,
        no_save_vis: bool = False,
        draw_pred: bool = True,
        pred_score_thr: ScoreThresholds = 0.3,
        return_datasamples: bool = False,
        print_result: bool = False,
        no_save_pred: bool = True,
        out_dir: str = '',
        texts: str | list | None = None,
        stuff_texts: str | list | None = None,
        custom_entities: bool = False,
        tokens_positive: list | None = None,
        **kwargs: Any,
    ) -> dict:
        """Detect.

        Args:
            inputs: Path, URL, folder, Pillow picture, tensor (RGB; channels, h, w) or array (BGR; h, w, channels), or a
                list of these. Arrays mean what files of their pixels mean, see :func:`mmdet.utils.pictures.as_picture`.
            batch_size: Pictures that pass through the network together.
            return_vis: Return the drawn pictures (RGB).
            show, wait_time: Show each in a window, for so many seconds (0: until it is closed).
            pred_score_thr: Detections with higher scores are drawn: a number, a list by label, a dict by class name,
                or a JSON file of either such as the COCO metric writes (``class_thresholds=True``). The returned and
                saved predictions are all.
            return_datasamples: Return samples in place of dicts.
            no_save_vis, no_save_pred: Leave out ``out_dir/vis/*`` or ``out_dir/preds/*.json``.
            texts, stuff_texts, custom_entities, tokens_positive: For detectors that are told what to look for, one for
                all pictures or a list.

        Returns:
            ``predictions``: for each picture a dict with ``labels``, ``scores``, ``bboxes`` (xyxy, pixels of the
            picture) and, if there are any, ``masks`` (COCO's RLE) and ``landmarks``, or with a ``panoptic_seg`` (see
            :meth:`pred2dict`); ``visualization``: the drawings.
        """
        preprocess_kwargs, forward_kwargs, visualize_kwargs, postprocess_kwargs = self._dispatch_kwargs(
            return_vis=return_vis,
            show=show,
            wait_time=wait_time,
            draw_pred=draw_pred,
            pred_score_thr=resolve_score_thresholds(pred_score_thr, self.model.dataset_meta.get('classes')),
            img_out_dir=str(out_dir),
            no_save_vis=no_save_vis,
            print_result=print_result,
            pred_out_dir=str(out_dir),
            return_datasamples=return_datasamples,
            no_save_pred=no_save_pred,
            **kwargs,
        )
        if show:
            require_display(WITHOUT_WINDOW)
        pictures = self._with_prompts(
            self._inputs_to_list(inputs),
            dict(text=texts, stuff_text=stuff_texts, tokens_positive=tokens_positive),
            custom_entities,
        )
        results: dict[str, list] = {'predictions': [], 'visualization': []}
        batches = self.preprocess(pictures, batch_size=batch_size, **preprocess_kwargs)
        if self.show_progress:
            batches = with_progress(batches, -(-len(pictures) // batch_size))
        names = iter(self._names_of(pictures, bool(out_dir)))
        for given, data in batches:
            predictions = self.forward(data, **forward_kwargs)
            own = list(itertools.islice(names, len(given)))
            drawn = self.visualize(given, predictions, **visualize_kwargs, names=own)
            packed = self.postprocess(predictions, drawn, **postprocess_kwargs, names=own)
            results['predictions'] += packed['predictions']
            results['visualization'] += packed['visualization'] or []
        return results

    def _names_of(self, pictures: list, unique: bool) -> list[str]:
        """File names for drawings, no two the same if ``unique``; those of arrays are their numbers."""
        pictures = [_source(picture) for picture in pictures]
        with _COUNTING:
            first, self._num_given = self._num_given, self._num_given + len(pictures)
        names = [f'{number:08}.jpg' for number in range(first, first + len(pictures))]
        named = [i for i, picture in enumerate(pictures) if not isinstance(picture, np.ndarray)]
        paths = [os.fspath(pictures[i]) for i in named]
        for i, name in zip(named, self._names.reserve(paths) if unique else map(os.path.basename, paths)):
            names[i] = name
        return names

    @staticmethod
    def _with_prompts(pictures: list, prompts: dict[str, Any], custom_entities: bool) -> list:
        prompts = {name: value for name, value in prompts.items() if value is not None}
        if not prompts:
            return pictures
        columns = {}
        for name, value in prompts.items():
            per_picture = isinstance(value, list) and (name != 'tokens_positive' or _of_each_picture(value))
            if per_picture and len(value) != len(pictures):
                raise UserValueError(f'{len(value)} values of {name} for {len(pictures)} pictures')
            columns[name] = value if per_picture else [value] * len(pictures)
        return [
            {
                'img' if isinstance(picture, np.ndarray) else 'img_path': picture,
                'custom_entities': custom_entities,
                **{name: column[i] for name, column in columns.items()},
            }
            for i, picture in enumerate(pictures)
        ]

    def visualize(
        self,
        inputs: list,
        preds: list[DetDataSample],
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0,
        draw_pred: bool = True,
        pred_score_thr: ScoreThresholds = 0.3,
        no_save_vis: bool = False,
        img_out_dir: str = '',
        names: list[str] | None = None,
        **kwargs: Any,
    ) -> list[np.ndarray] | None:
        """Draw, show and save; the drawings are returned only with ``return_vis``. ``names`` are those of the files."""
        save = bool(img_out_dir) and not no_save_vis
        if not (save or show or return_vis):
            return None
        if show:
            require_display(WITHOUT_WINDOW)
        started = time.perf_counter()
        drawings = []
        for item, sample, name in zip(inputs, preds, names or self._names_of(inputs, save), strict=True):
            image = self._read_for_drawing(item)
            with DRAWING:  # what is drawn stays in the visualizer until it is fetched
                self.visualizer.add_datasample(
                    name,
                    image,
                    sample,
                    draw_gt=False,
                    draw_pred=draw_pred,
                    show=show,
                    wait_time=wait_time,
                    pred_score_thr=pred_score_thr,
                    out_file=os.path.join(img_out_dir, 'vis', name) if save else None,
                )
                if return_vis:
                    drawings.append(self.visualizer.get_image())
            with _COUNTING:
                self.num_visualized_imgs += 1
        self._add_seconds('draw', started)
        return drawings if return_vis else None

    def _read_for_drawing(self, item: Any) -> np.ndarray:
        """(h, w, 3) RGB, as the pipeline loads it."""
        loader = image_loader(self.pipeline)
        if loader is not None:
            return load_rgb(loader, item)
        item = _source(item)
        return (as_picture(item) if isinstance(item, np.ndarray) else read_picture(item))[..., ::-1]

    def postprocess(
        self,
        preds: list[DetDataSample],
        visualization: list[np.ndarray] | None = None,
        return_datasamples: bool = False,
        print_result: bool = False,
        no_save_pred: bool = False,
        pred_out_dir: str = '',
        names: list[str] | None = None,
        **kwargs: Any,
    ) -> dict:
        """Predictions as plain values (or samples), written to ``pred_out_dir/preds`` unless told otherwise."""
        pred_out_dir = '' if no_save_pred else pred_out_dir
        predictions = []
        for sample, name in zip(preds, names or [''] * len(preds), strict=True):
            if return_datasamples and not pred_out_dir and not print_result:
                predictions.append(sample)
            else:
                values = self.pred2dict(sample, pred_out_dir, os.path.splitext(name)[0])
                if print_result:
                    print(json.dumps(values, default=lambda array: f'array {array.shape}'))
                predictions.append(sample if return_datasamples else values)
            with _COUNTING:
                self.num_predicted_imgs += 1
        return {'predictions': predictions, 'visualization': visualization}

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '', name: str = '') -> dict:
        """Numbers and strings of a sample; with ``pred_out_dir`` also as a JSON file ``name`` there, by default named
        after the picture.

        A panoptic segmentation is an (h, w, 3) array of ids in COCO's colour code, or the path of a PNG of it.
        """
        folder = os.path.join(pred_out_dir, 'preds')
        result: dict[str, Any] = {}
        if 'pred_instances' in data_sample:
            instances = data_sample.pred_instances.cpu().detach()
            for key in ('labels', 'scores', 'bboxes', 'landmarks', 'keypoints', 'keypoint_scores'):
                if key in instances:
                    result[key] = instances.get(key).tolist()
            if 'label_names' in instances:
                result['label_names'] = list(instances.label_names)
            if 'masks' in instances:
                if 'bboxes' not in instances or not instances.bboxes.any():
                    result['bboxes'] = mask2bbox(torch.as_tensor(bitmaps_of(instances.masks))).tolist()
                coded = isinstance(instances.masks, list)  # a model with mask_format='rle'
                result['masks'] = [dict(m) for m in instances.masks] if coded else encode_mask_results(instances.masks)
                for mask in result['masks']:
                    mask['counts'] = mask['counts'].decode()
        if 'pred_sem_seg' in data_sample:
            result['sem_seg'] = data_sample.pred_sem_seg.sem_seg.cpu().numpy()
        if 'pred_panoptic_seg' in data_sample:
            segments = data_sample.pred_panoptic_seg.sem_seg.cpu().numpy()[0]
            classes = self.model.dataset_meta.get('classes') or ()
            segments = np.where(segments % INSTANCE_OFFSET == len(classes), VOID, segments)
            result['panoptic_seg'] = np.stack([segments % 256, segments // 256 % 256, segments // 65536], -1).astype(
                'u1'
            )
        if pred_out_dir:
            from mmdet.visualization.sheet import write_image

            if not name:
                path = data_sample.get('img_path')
                name = f'{self.num_predicted_imgs:08}' if path is None else os.path.splitext(self._names(str(path)))[0]
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            for key in ('panoptic_seg', 'sem_seg'):
                if key in result:
                    array = result.pop(key)
                    array = array if key == 'panoptic_seg' else np.repeat(array[0, ..., None], 3, axis=2)
                    result[f'{key}_path'] = os.path.join(folder, f'{name}_{key}.png')
                    write_image(array, result[f'{key}_path'])
            Path(folder, f'{name}.json').write_text(json.dumps(result), encoding='utf-8')
        return result


def _source(item: Any) -> Any:
    """The path or array of an input, which may have prompts beside it."""
    return item.get('img_path', item.get('img')) if isinstance(item, dict) else item


def _describe(item: Any) -> str:
    item = _source(item)
    return f'an array of shape {item.shape}' if isinstance(item, np.ndarray) else repr(item)


def with_progress(batches: Iterable, total: int) -> Iterator:
    """``batches`` with a bar, unless one is on the screen already: of another thread, or of the program around."""
    from rich.errors import LiveError
    from rich.progress import Progress

    bar = Progress() if _BAR.acquire(blocking=False) else None
    try:
        if bar is not None:
            bar.start()
    except LiveError:
        bar.stop()
        _BAR.release()
        bar = None
    try:
        yield from batches if bar is None else bar.track(batches, total=total, description='Inference')
    finally:
        if bar is not None:
            bar.stop()
            _BAR.release()


def _as_config(model: str | Path | Config | dict) -> Config:
    if isinstance(model, (Config, dict)):
        return as_config(model)
    if not isinstance(model, (str, Path)):
        raise UserTypeError(f'model must be a config, a config file or its name, not {type(model).__name__}')
    return load_config(model)


def _of_each_picture(tokens_positive: list) -> bool:
    """Whether these are places of names in the text of each picture, or -1, rather than in one text for all."""
    first: Any = tokens_positive[:1]
    for _ in range(3):
        first = first[0] if isinstance(first, list) and first else first
        if first == -1:
            return True
    return isinstance(first, list)
