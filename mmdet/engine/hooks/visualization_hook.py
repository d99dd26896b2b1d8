"""Pictures with predictions, during validation and testing."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from mmdet.registry import HOOKS
from mmdet.visualization.caption import draw_caption, draw_grounded
from mmdet.visualization.pictures import LoadedPictures
from mmdet.visualization.sheet import write_image
from mmdet.visualization.window import require_display


@HOOKS.register_module()
class DetVisualizationHook(Hook):
    """Draws predictions through the visualizer: into its backends while validating, into a folder while testing.

    Args:
        draw: Off unless set; ``tools/test.py --show`` and ``--show-dir`` set it.
        interval: Validation batches between two pictures.
        score_thr: Detections below are not drawn.
        show: In a window too.
        wait_time: Seconds to show each picture.
        test_out_dir: Folder for test pictures, below the time-stamped folder of the run, with the folders that they
            have below that of their data set.
        backend_args: For reading the images where no pipeline says how to.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        self._visualizer: Visualizer = Visualizer.get_current_instance()
        self.interval, self.score_thr = interval, score_thr
        self.draw, self.show, self.wait_time = draw, show, wait_time
        self.test_out_dir, self.backend_args = test_out_dir, backend_args
        self._test_index = 0
        self._pictures: dict[int, LoadedPictures] = {}
        if show:  # pictures in a window need no file
            self._visualizer._vis_backends = {}

    def before_run(self, runner: Any) -> None:
        """Refuse to wait for a window that never opens.

        Raises:
            UserRuntimeError: there is no display to show pictures on.
        """
        if self.draw and self.show and is_main_process():
            require_display('--show-dir DIR writes the pictures to a folder')

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: dict, outputs: Sequence[Any]) -> None:
        step = runner.iter + batch_idx
        if not self.draw or step % self.interval:
            return
        path = outputs[0].img_path
        self._visualizer.add_datasample(
            osp.basename(path) if self.show else 'val_img',
            self._of(runner, 'val')(path),
            data_sample=outputs[0],
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            step=step,
        )

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: dict, outputs: Sequence[Any]) -> None:
        if not self.draw:
            return
        folder = None
        if self.test_out_dir is not None:
            folder = osp.join(runner.work_dir, runner.timestamp, self.test_out_dir)
        pictures = self._of(runner, 'test')
        for data_sample in outputs:
            self._test_index += 1
            path = data_sample.img_path
            self._draw(
                osp.basename(path) if self.show else 'test_img',
                pictures(path),
                data_sample,
                folder and osp.join(folder, pictures.names(path)),
            )

    def _draw(self, name: str, image: np.ndarray, data_sample: Any, out_file: str | None) -> None:
        """One tested picture (h, w, 3; RGB)."""
        self._visualizer.add_datasample(
            name,
            image,
            data_sample=data_sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=self._test_index,
        )

    def _of(self, runner: Any, split: str) -> LoadedPictures:
        """The pictures of the data set that is validated or tested on."""
        dataset = getattr(getattr(getattr(runner, f'{split}_loop', None), 'dataloader', None), 'dataset', None)
        if id(dataset) not in self._pictures:
            self._pictures[id(dataset)] = LoadedPictures(dataset, self.backend_args)
        return self._pictures[id(dataset)]


@HOOKS.register_module()
class GroundingVisualizationHook(DetVisualizationHook):
    """:class:`DetVisualizationHook` that writes captions below their pictures, each phrase in the colour of its boxes.

    Samples whose ``text`` is a caption with ``tokens_positive`` are drawn so; ``phrase_ids`` say the phrases of the
    ground truth, else its labels do. What has a list of classes is drawn as ever.
    """

    def _draw(self, name: str, image: np.ndarray, data_sample: Any, out_file: str | None) -> None:
        if not isinstance(data_sample.get('text'), str) or data_sample.get('tokens_positive') is None:
            return super()._draw(name, image, data_sample, out_file)
        drawn = draw_grounded(self._visualizer, image, data_sample, self.score_thr)
        if self.show:
            self._visualizer.show(drawn, win_name=name, wait_time=self.wait_time)
        if out_file is not None:
            write_image(drawn, out_file)
        else:
            self._visualizer.add_image(name, drawn, self._test_index)


def draw_all_character(visualizer: Any, characters: Sequence[Sequence[Any]], w: int) -> np.ndarray:
    """Pieces of text, each with its colour, in lines on a white picture (h, w, 3); the visualizer keeps it."""
    drawn = draw_caption([(str(text), color) for text, color in characters], w)
    visualizer.set_image(drawn)
    return drawn
