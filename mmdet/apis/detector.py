"""A detector as three calls: train, val, predict."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmdet.config import config_root, load_config, resolve_config
from mmdet.errors import UserError, UserFileError, UserImportError, UserValueError
from mmdet.utils.pictures import as_picture, read_picture

from .finished import best_checkpoint, trained_config
from .inference import as_prompt, require_texts
from .results import Result
from .sources import Picture, pictures_of

CHECKPOINTS = ('.pth', '.pt', '.safetensors')


class Results(list):
    """The results of all pictures that could be read; ``skipped`` are the others, as (name, reason)."""

    skipped: list[tuple[str, str]]


class Detector:
    """A detector by name, config, checkpoint or folder of a training.

    Args:
        model: Name of a config, whole or short (``'rtmdet-tiny'``), a config file, a checkpoint that carries its
            config, the folder that a training wrote, of which the best checkpoint is taken, or what
            :meth:`save_pretrained` wrote, here or at ``hf://owner/repo``.
        weights: Checkpoint file, URL or ``hf://owner/repo``; by default those published for the name.
        pretrained: False begins with random weights, on purpose.
        device: The best one that there is by default.

    Example:
        >>> Detector('rtmdet-tiny').predict('docs/demo.jpg')[0].names
        >>> Detector('rtmdet-tiny').train('data/bccd', epochs=30).val()['coco/bbox_mAP']

    Raises:
        NoWeightsError: there are no weights for the name, and none were asked for.
    """

    def __init__(
        self,
        model: str | Path = 'rtmdet-tiny',
        weights: str | Path | None = None,
        pretrained: bool = True,
        device: str | None = None,
    ) -> None:
        self.device = device
        self.work_dir: str | None = None
        self.metrics: dict[str, Any] = {}
        self.skipped: list[tuple[str, str]] = []
        self._network: Any = None
        self._prompt: dict[str, Any] = {}
        if weights is not None and not pretrained:
            raise UserValueError(f'pretrained=False means no weights, but weights={str(weights)!r} are given')
        self.config, self.weights = locate(model, None if weights is None else str(weights), pretrained)

    def __repr__(self) -> str:
        return f'Detector({str(self.config)!r}, weights={self.weights!r})'

    # -- the network ---------------------------------------------------------------------------------------------------

    @property
    def network(self) -> Any:
        """The detector as a module in evaluation mode; it is built when it is first asked for."""
        if self._network is None:
            from mmdet.utils.checkpoint import read_checkpoint

            from .inference import build_detector, build_inference_pipeline, stored_config

            content = None if self.weights is None else read_checkpoint(self.weights)
            if self.config is None:
                cfg = stored_config(content or {}, str(self.weights))
            else:
                cfg = load_config(self.config)
            self._network = build_detector(cfg, content, device=self.device, source=self.weights)
            self._pipeline = build_inference_pipeline(cfg)
            self._visualizer = None
        return self._network

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by number."""
        return tuple(self.network.dataset_meta.get('classes') or ())

    # -- prediction ----------------------------------------------------------------------------------------------------

    def predict(
        self,
        source: Any,
        threshold: float = 0.3,
        batch: int = 1,
        slice: int | tuple[int, int] | None = None,
        overlap: float = 0.25,
        stream: bool = False,
        texts: str | Sequence[str] | None = None,
        custom_entities: bool = True,
    ) -> Any:
        """Detections on anything that holds pictures; see :func:`mmdet.apis.sources.pictures_of`.

        Args:
            threshold: Lowest score of what is reported.
            batch: Pictures that pass through the network together.
            slice: Width and height of tiles that large pictures are cut into, or one number for both; objects across
                their borders are put together.
            overlap: Of neighbouring tiles, in parts of their sides.
            stream: Give the results one by one, with the memory of a batch, in place of a list.
            texts: What to look for, for detectors that read: names, or ``'cat . traffic light'``.
            custom_entities: False if ``texts`` is a sentence, whose phrases are looked for.

        Returns:
            A list of :class:`Result` whose ``skipped`` has the pictures that could not be read, or with ``stream`` an
            iterator; then they are in ``skipped`` of the detector.
        """
        if not 0 <= threshold <= 1:
            raise UserValueError(f'threshold must lie between 0 and 1, not {threshold}')
        if batch < 1:
            raise UserValueError(f'batch must be at least 1, not {batch}')
        prompt = as_prompt(texts)
        require_texts(self.network, prompt)
        self._prompt = {} if prompt is None else dict(text=prompt, custom_entities=custom_entities)
        self.skipped = []
        found = self._results(pictures_of(source), threshold, batch, slice, overlap)
        if stream:
            return found
        results = Results(found)
        results.skipped = self.skipped
        return results

    def _results(
        self, pictures: Iterator[Picture], threshold: float, batch: int, slice: Any, overlap: float
    ) -> Iterator[Result]:
        classes, skipped = self.classes, self.skipped
        waiting: list[tuple[Picture, dict]] = []

        def flush() -> Iterator[Result]:
            samples = self._forward([data for _, data in waiting])
            for (picture, _), sample in zip(waiting, samples, strict=True):
                yield Result(picture, sample, classes, threshold, self._drawing)
            waiting.clear()

        for picture in pictures:
            try:
                if picture.fault is not None:
                    raise UserFileError(picture.fault)
                if slice is not None:
                    from .large_image import predict_tiles

                    array = self._array(picture)
                    sample = predict_tiles(self._of_arrays, array, slice, overlap, batch)
                    yield Result(picture, sample, classes, threshold, self._drawing)
                    continue
                data = self._load(picture.content)
            except (UserError, OSError) as error:
                skipped.append((picture.path or picture.name, str(error)))
                continue
            waiting.append((picture, data))
            if len(waiting) == batch:
                yield from flush()
        if waiting:
            yield from flush()

    def _load(self, content: Any) -> dict:
        kind = 'img' if isinstance(content, np.ndarray) else 'img_path'
        data = self._pipeline({kind: content, 'img_id': 0, **self._prompt})
        if data is None:
            raise UserValueError('the test pipeline returned nothing')
        return data

    def _forward(self, batch: list[dict]) -> list:
        from mmengine.dataset import pseudo_collate

        from mmdet.config import building

        with torch.no_grad(), building(self.network.cfg):
            return self.network.test_step(pseudo_collate(batch))

    def _of_arrays(self, arrays: list[np.ndarray]) -> list:
        return self._forward([self._load(array) for array in arrays])

    @staticmethod
    def _array(picture: Picture) -> np.ndarray:
        """(h, w, 3) BGR in 8 bits."""
        if isinstance(picture.content, np.ndarray):
            return as_picture(picture.content)
        return read_picture(picture.content)

    def _drawing(self, result: Result) -> np.ndarray:
        from mmdet.visualization.text import DRAWING

        from .inference import build_visualizer

        image = self._array(Picture(result.content, result.path, result.name))[..., ::-1]
        with DRAWING:
            if self._visualizer is None:  # it takes half a second to import, and not everybody draws
                self._visualizer = build_visualizer(self.network.cfg, self.network.dataset_meta)
            self._visualizer.add_datasample(
                result.name, image, result.sample, draw_gt=False, show=False, pred_score_thr=result.threshold
            )
            return self._visualizer.get_image()

    # -- training and evaluation ---------------------------------------------------------------------------------------

    def train(self, data: str | Path, work_dir: str | None = None, **options: Any) -> Detector:
        """Train on a folder of data; afterwards this is the detector of the best checkpoint.

        Args:
            work_dir: Folder for the training, by default in ``work_dirs``.
            options: Those of :class:`mmdet.apis.own_data.Options`: epochs, batch, size, lr, workers, seed, share.
        """
        from mmengine.registry import init_default_scope

        from .launch import build_runner, fit
        from .own_data import Options
        from .own_run import init

        unknown = sorted(set(options) - set(Options.__dataclass_fields__) | ({'model', 'weights'} & set(options)))
        if unknown:
            known = sorted(set(Options.__dataclass_fields__) - {'model', 'weights'})
            raise UserValueError(f'train has no option {unknown[0]!r}; it has {", ".join(known)}')
        if self.config is None:
            raise UserValueError(f'{self.weights} carries its config; give the config to train it on other data')
        wanted = Options(model=str(self.config), weights=self.weights or False, **options)
        name = Path(data).expanduser().absolute()
        folder = work_dir or f'work_dirs/{(name if name.is_dir() else name.parent).name}_{Path(self.config).stem}'
        path = init(data, wanted, out=Path(folder) / 'data', work_dir=folder, force=True, brief=True)
        cfg = load_config(path)
        init_default_scope('mmdet')
        fit(build_runner(cfg))
        self.work_dir, self._network = folder, None
        self.config, self.weights = path, best_checkpoint(Path(folder))
        return self

    def val(self, data: str | Path | None = None, split: str = 'val', work_dir: str | None = None) -> dict[str, Any]:
        """Metrics on a split of other data, or on the test data of the config.

        Raises:
            UserValueError: the data have a class that the detector does not know.
        """
        from mmengine.registry import init_default_scope

        from .launch import build_runner, measure
        from .own_val import on_data

        if self.weights is None:
            raise UserValueError('there are no weights to measure: train first, or give weights')
        cfg = self.network.cfg.copy()
        cfg.load_from, cfg.resume = self.weights, False
        cfg.work_dir = work_dir or os.path.join(self.work_dir or 'work_dirs', 'val')
        if data is not None:
            on_data(cfg, data, split, self.classes)
        init_default_scope('mmdet')
        self.metrics = measure(build_runner(cfg))
        return self.metrics

    # -- other runtimes ------------------------------------------------------------------------------------------------

    def export(self, format: str = 'onnx', **options: Any) -> Any:
        """Write a file of another format and prove that it finds the same, see
        :func:`mmdet.apis.exporting.export_detector`.

        Args:
            options: Those of :class:`mmdet.apis.exporting.Options`: precision, out, size, dynamic_batch, pictures, ...

        Returns:
            The ``path`` of the file, and the ``difference`` of what it finds.

        Raises:
            UserRuntimeError: the file finds something else.
        """
        from .exporting import Options, export_detector

        unknown = sorted(set(options) - set(Options.__dataclass_fields__))
        if unknown:
            known = ', '.join(sorted(set(Options.__dataclass_fields__) - {'format'}))
            raise UserValueError(f'export has no option {unknown[0]!r}; it has {known}')
        if self.weights is None:
            raise UserValueError('there are no weights to export: train first, or give weights')
        config = self.network.cfg if self.config is None else str(self.config)
        return export_detector(config, self.weights, Options(format=format, **options))

    # -- the hub -------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights (``model.safetensors``), config and class names (``config.json``) and a card (``README.md``).

        ``Detector(folder)`` is this detector again. Nothing of these files is run when they are read.
        """
        from safetensors.torch import save_file

        network, folder = self.network, Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
        save_file(state, folder / 'model.safetensors', metadata={'format': 'pt'})
        content = dict(
            library='mmdet',
            id2label={str(number): name for number, name in enumerate(self.classes)},
            mmdet_config=network.cfg.pretty_text,
        )
        (folder / 'config.json').write_text(json.dumps(content, indent=1), encoding='utf-8')
        (folder / 'README.md').write_text(self._card(), encoding='utf-8')
        return folder

    def _card(self) -> str:
        kind = type(self.network).__name__
        count = sum(parameter.numel() for parameter in self.network.parameters())
        results = ''.join(f'| {name} | {value:.4g} |\n' for name, value in self.metrics.items())
        table = f'\n| metric | value |\n| --- | --- |\n{results}' if results else ''
        return (
            f'---\nlibrary_name: mmdet\npipeline_tag: object-detection\ntags: [{kind.lower()}]\n---\n\n'
            f'# {kind}\n\n{count / 1e6:.1f} million parameters. Classes: {", ".join(self.classes)}.\n{table}\n'
            "```python\nfrom mmdet import Detector\n\nDetector('hf://OWNER/REPO').predict('picture.jpg')\n```\n"
        )

    def push_to_hub(self, repo: str, private: bool = False, token: str | None = None) -> str:
        """Put what :meth:`save_pretrained` writes into a repository of the Hugging Face hub; returns its address.

        Raises:
            UserImportError: `huggingface_hub` is not installed.
        """
        import tempfile

        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise UserImportError('push_to_hub needs huggingface_hub: pip install huggingface_hub') from None
        if repo.count('/') != 1:
            raise UserValueError(f'a repository is owner/name, not {repo!r}')
        api = HfApi(token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = Path(folder, 'README.md')
            card.write_text(card.read_text(encoding='utf-8').replace('OWNER/REPO', repo), encoding='utf-8')
            api.upload_folder(repo_id=repo, folder_path=folder)
        return f'hf://{repo}'


def locate(model: str | Path, weights: str | None, pretrained: bool = True) -> tuple[Path | None, str | None]:
    """Config file and weights of what a person calls a model; no config for weights that carry their own.

    Raises:
        UserError: there is no such thing, or it has no weights.
    """
    path = Path(model).expanduser()
    if str(model).startswith('hf://') or (path / 'model.safetensors').is_file():
        return None, str(model)
    if path.is_dir():
        return trained_config(path), weights or (best_checkpoint(path) if pretrained else None)
    if path.suffix in CHECKPOINTS:
        if not path.is_file():
            raise UserFileError(f'there is no checkpoint {str(model)!r}')
        return None, str(path)
    config = resolve_config(model)
    if not config.is_file():
        load_config(config)  # says what is meant
    if weights is None and pretrained:
        from mmdet.zoo import weights_of

        if not config.is_relative_to(config_root()):
            raise UserValueError(
                f'{str(model)!r} comes without weights: give them, or pretrained=False for random ones'
            )
        weights = weights_of(config.stem).url
    return config, weights
