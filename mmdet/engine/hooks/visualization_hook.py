"""Pictures with predictions, during validation and testing."""

from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from mmdet.registry import HOOKS
from mmdet.visualization.pictures import LoadedPictures
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
            self._visualizer.add_datasample(
                osp.basename(path) if self.show else 'test_img',
                pictures(path),
                data_sample=data_sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=folder and osp.join(folder, pictures.names(path)),
                step=self._test_index,
            )

    def _of(self, runner: Any, split: str) -> LoadedPictures:
        """The pictures of the data set that is validated or tested on."""
        dataset = getattr(getattr(getattr(runner, f'{split}_loop', None), 'dataloader', None), 'dataset', None)
        if id(dataset) not in self._pictures:
            self._pictures[id(dataset)] = LoadedPictures(dataset, self.backend_args)
        return self._pictures[id(dataset)]
