"""Pictures with what is known and what is predicted about them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process, master_only
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer

from mmdet.errors import UserValueError
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import INSTANCE_OFFSET, bitmaps_of
from mmdet.utils import above_score_threshold, resolve_score_thresholds
from mmdet.utils.log_packages import require_packages
from mmdet.utils.score_thresholds import ScoreThresholds

from .canvas import draw_boxes, draw_labels, draw_points, mask_centers, tint_masks
from .palette import Color, get_adaptive_scales, get_palette, jitter_color
from .sheet import write_image
from .text import DRAWING, missing_letters, plain_text
from .text import font_families as families_of
from .window import require_display

LANDMARK_COLORS = [(255, 64, 64), (64, 200, 255), (255, 220, 0), (255, 64, 255), (64, 255, 64)]


def one_at_a_time(method: Callable) -> Callable:
    """``method`` under the lock of all drawing, which other things that draw may take too."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with DRAWING:
            return method(*args, **kwargs)

    return call


@VISUALIZERS.register_module()
class DetLocalVisualizer(Visualizer):
    """Draws boxes, masks, landmarks, semantic and panoptic segmentation.

    Threads may share it: :meth:`draw_datasample` and :meth:`add_datasample` draw one picture at a time, and neither
    draws from the global random numbers.

    Colours are RGB. Set ``dataset_meta`` (``classes`` and ``palette``) for names and colours of the classes.

    Args:
        image: (h, w, 3) RGB.
        bbox_color, mask_color: A colour or a palette (see :func:`get_palette`) in place of the data set's.
        text_color: Of labels, on dark ground; ``None`` takes the palette.
        line_width: At most; small pictures get thinner lines.
        alpha: Opacity of boxes and masks.
        font_file: A font for labels; letters that it lacks, and all without one, are of fonts of the system.

    Samples are drawn by OpenCV and Pillow. What the methods of :class:`mmengine.visualization.Visualizer` draw
    (``draw_lines``, ``draw_texts`` and others) lies on a figure of matplotlib, which is made at their first call.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        image: np.ndarray | None = None,
        vis_backends: list | dict | None = None,
        save_dir: str | None = None,
        bbox_color: str | Color | Sequence[Color] | None = None,
        text_color: str | Color | None = (200, 200, 200),
        mask_color: str | Color | Sequence[Color] | None = None,
        line_width: int | float = 3,
        alpha: float = 0.8,
        font_file: str | None = None,
    ) -> None:
        require_packages(vis_backends)
        self._on_figure = False
        super().__init__(name=name, image=image, vis_backends=vis_backends, save_dir=save_dir)
        self.font_file = font_file
        self.bbox_color = bbox_color
        self.text_color = text_color
        self.mask_color = mask_color
        self.line_width = line_width
        self.alpha = alpha
        self.dataset_meta = {}

    @property
    def ax_save(self) -> Any:
        """The axes of the figure, with the picture as it has been drawn so far."""
        if not self._on_figure and getattr(self, '_image', None) is not None:
            self._on_figure = True
            super().set_image(self._image)
        return self._axes

    @ax_save.setter
    def ax_save(self, axes: Any) -> None:
        self._axes = axes

    @master_only
    def set_image(self, image: np.ndarray) -> None:
        """Take a picture (h, w, 3), RGB, to draw on a copy of it."""
        self._take(np.array(image, dtype=np.uint8, order='C'))

    def _take(self, image: np.ndarray) -> None:
        """As :meth:`set_image`, to draw on the picture itself."""
        self._image = image
        self.height, self.width = image.shape[:2]
        self._default_font_size = max(np.sqrt(self.height * self.width) // 90, 10)
        self._on_figure = False

    @master_only
    def get_image(self) -> np.ndarray:
        """The picture (h, w, 3), RGB, with all that was drawn."""
        return self._pixels().copy()

    def _pixels(self) -> np.ndarray:
        """The picture to draw on, with what lies on the figure."""
        if getattr(self, '_image', None) is None:
            raise UserValueError('there is no picture to draw on: call set_image first')
        if self._on_figure:
            self.set_image(super().get_image())
        return self._image

    def draw_bboxes(
        self,
        bboxes: np.ndarray | torch.Tensor,
        edge_colors: str | tuple | list = 'g',
        line_styles: str | list = '-',
        line_widths: int | float | list = 2,
        face_colors: str | tuple | list = 'none',
        alpha: int | float = 0.8,
    ) -> DetLocalVisualizer:
        """Boxes (n, 4) or (4,), as of :class:`mmengine.visualization.Visualizer`; tuples of RGB are fast colours."""
        boxes = _to_numpy(bboxes).reshape(-1, 4).astype(np.float64)
        colors = [edge_colors] * len(boxes) if isinstance(edge_colors, tuple) else edge_colors
        is_plain = isinstance(colors, list) and all(isinstance(color, tuple) for color in colors)
        if not (is_plain and line_styles == '-' and face_colors == 'none' and isinstance(line_widths, (int, float))):
            return super().draw_bboxes(boxes, edge_colors, line_styles, line_widths, face_colors, alpha)
        image = self._pixels()
        width = max(round(min(max(line_widths, 1), self._default_font_size / 4)), 1)
        draw_boxes(image, boxes, colors, width, alpha)
        return self

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: Sequence[Color] | None,
    ) -> np.ndarray:
        """``image`` with the boxes, masks, landmarks and labels of ``instances``."""
        self.set_image(image)
        if 'bboxes' in instances:  # what has diverged has no place
            finite = np.isfinite(_to_numpy(get_box_tensor(instances.bboxes)).astype(np.float64)).all(-1)
            instances = instances if finite.all() else instances[finite]
        if len(instances) == 0:
            return self._pixels()
        labels = _to_numpy(instances.labels) if 'labels' in instances else np.zeros(len(instances), dtype=np.int64)
        num_colors = int(labels.max()) + 1
        positions = sizes = None

        if 'masks' in instances:
            masks = bitmaps_of(instances.masks).astype(bool)
            colors = get_palette(palette if self.mask_color is None else self.mask_color, num_colors)
            tint_masks(self._pixels(), masks, _jittered(colors, labels), self.alpha * 0.6)

        boxes = None
        if 'bboxes' in instances:
            boxes = _to_numpy(get_box_tensor(instances.bboxes)).astype(np.float64)
            boxes = boxes.clip(0, [self.width, self.height] * 2)
            boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
        if boxes is not None and (boxes.any() or 'masks' not in instances):
            colors = get_palette(palette if self.bbox_color is None else self.bbox_color, num_colors)
            shown = boxes.clip(0, [self.width - 1, self.height - 1] * 2)  # the far edges lie beyond the last pixel
            self.draw_bboxes(
                shown,
                edge_colors=[colors[label] for label in labels],
                alpha=self.alpha,
                line_widths=self.line_width,
            )
            positions = shown[:, :2]
            sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        elif 'masks' in instances:
            positions, sizes = mask_centers(masks)

        for name in ('landmarks', 'keypoints'):
            if name in instances:
                self._draw_landmarks(_to_numpy(instances.get(name)), sizes)
        if 'labels' in instances and positions is not None:
            texts = self._label_texts(instances, labels, classes)
            bars = None if boxes is None else self.bbox_color or palette or 'random'
            self._draw_labels(texts, positions, sizes, labels, palette, bars)
        return self._pixels()

    @staticmethod
    def _label_texts(instances: InstanceData, labels: np.ndarray, classes: Sequence[str] | None) -> list[str]:
        if 'label_names' in instances:
            texts = [str(name) for name in instances.label_names]
        else:
            texts = _class_names(labels, classes)
        if 'scores' in instances:
            texts = [
                f'{text}: {score * 100:.1f}' for text, score in zip(texts, _to_numpy(instances.scores), strict=True)
            ]
        return texts

    def _draw_labels(
        self,
        texts: list[str],
        positions: np.ndarray,
        areas: np.ndarray,
        labels: np.ndarray,
        palette: Sequence[Color] | None,
        bars: str | Color | Sequence[Color] | None = None,
    ) -> None:
        """Text at ``positions`` (x, y) on dark ground, inside the picture and beside other labels.

        ``bars`` is the palette of a bar at the left of each label, which tells whose it is.
        """
        count = int(labels.max()) + 1
        colors = get_palette(palette if self.text_color is None else self.text_color, count)
        side = np.sqrt(self.width * self.height)
        # 18 pixels suit a picture of 800 x 1333; a small one has no room for them, and below 9 nothing is legible.
        largest = max(float(np.clip(side / 23, 10, 18)), side / 65)
        draw_labels(
            self._pixels(),
            texts,
            positions + 2,
            np.maximum(largest * get_adaptive_scales(areas), 9),
            [colors[label] for label in labels],
            None if bars is None else [get_palette(bars, count)[label] for label in labels],
            self.font_file,
        )

    def _draw_landmarks(self, landmarks: np.ndarray, areas: np.ndarray | None) -> None:
        """Points (n, K, 2 or 3) or flat (n, 2K), a colour for each of the K."""
        landmarks = landmarks.reshape(len(landmarks), -1, landmarks.shape[-1] if landmarks.ndim == 3 else 2)
        if areas is None:
            areas = np.full(len(landmarks), 32.0**2)
        for points, area in zip(landmarks[..., :2], areas, strict=True):
            radius = float(np.clip(np.sqrt(max(area, 0)) / 30, 1.0, max(self.height, self.width) / 100 + 1))
            inside = (points >= radius).all(-1) & (points < (self.width - radius, self.height - radius)).all(-1)
            colors = [LANDMARK_COLORS[k % len(LANDMARK_COLORS)] for k in np.flatnonzero(inside)]
            draw_points(self._pixels(), points[inside], radius, colors)

    def _draw_sem_seg(
        self,
        image: np.ndarray,
        sem_seg: PixelData,
        classes: Sequence[str] | None,
        palette: Sequence[Color] | None,
        unnamed: Sequence[int] = (),
    ) -> np.ndarray:
        """``image`` with a colour for each class and, but for the labels ``unnamed``, its name.

        Labels that are no class are left out.
        """
        seg = _to_numpy(sem_seg.sem_seg).reshape(image.shape[:2])
        known = classes if 'label_names' not in sem_seg else sem_seg.label_names
        labels = np.unique(seg).astype(int)
        labels = labels[(labels >= 0) & (labels != 255) & (labels < (len(known) if known is not None else 2**31))]
        alike = np.zeros(len(labels), dtype=bool)  # the colours of the palette: one class is one colour everywhere
        masks = [seg == label for label in labels]
        return self._draw_segments(image, masks, labels, known, palette, alike, ~np.isin(labels, unnamed))

    def _draw_panoptic_seg(
        self,
        image: np.ndarray,
        panoptic_seg: PixelData,
        classes: Sequence[str] | None,
        palette: Sequence[Color] | None,
    ) -> np.ndarray:
        """``image`` with a colour and a name for each segment; the label after the last class is void."""
        seg = _to_numpy(panoptic_seg.sem_seg).reshape(image.shape[:2])
        known = classes if 'label_names' not in panoptic_seg else panoptic_seg.label_names
        segments = np.unique(seg).astype(int)[::-1]
        labels = segments % INSTANCE_OFFSET
        is_class = labels < (len(known) if known is not None else INSTANCE_OFFSET)
        segments, labels = segments[is_class], labels[is_class]
        masks = [seg == segment for segment in segments]
        every = np.ones(len(labels), dtype=bool)
        return self._draw_segments(image, masks, labels, known, palette, segments >= INSTANCE_OFFSET, every)

    def _draw_segments(
        self,
        image: np.ndarray,
        masks: list[np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str] | None,
        palette: Sequence[Color] | None,
        jittered: np.ndarray,
        named: np.ndarray,
    ) -> np.ndarray:
        """``jittered``: which of the segments differ a little from the colour of their class."""
        if not masks:
            return image
        colors = get_palette(palette if self.mask_color is None else self.mask_color, int(labels.max()) + 1)
        masks = np.stack(masks)
        varied = _jittered(colors, labels)
        shown = [varied[i] if jitter else colors[label] for i, (label, jitter) in enumerate(zip(labels, jittered))]
        self.set_image(image)
        tint_masks(self._pixels(), masks, shown, self.alpha * 0.75)
        if named.any():
            positions, areas = mask_centers(masks[named])
            self._draw_labels(_class_names(labels[named], classes), positions, areas, labels[named], palette)
        return self._pixels()

    def draw_texts(
        self,
        texts: str | list[str],
        positions: np.ndarray | torch.Tensor,
        *args: Any,
        font_families: str | list | None = None,
        **kwargs: Any,
    ) -> DetLocalVisualizer:
        """Texts as they are written, without formulas, in fonts that have their letters unless ``font_families`` are
        given; all else as in :class:`mmengine.visualization.Visualizer`.
        """
        each = [texts] if isinstance(texts, str) else list(texts)
        families = [families_of(text) for text in each] if font_families is None else font_families
        return super().draw_texts(
            [plain_text(text) for text in each], positions, *args, font_families=families, **kwargs
        )

    def show(self, drawn_img: np.ndarray | None = None, *args: Any, **kwargs: Any) -> None:
        """Show the picture in a window.

        Raises:
            UserRuntimeError: there is no display.
        """
        if is_main_process():
            require_display()
        super().show(drawn_img, *args, **kwargs)

    @master_only
    @one_at_a_time
    def draw_datasample(
        self,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: ScoreThresholds = 0.3,
    ) -> np.ndarray:
        """(h, w, 3) RGB, twice as wide with ground truth and predictions; see :meth:`add_datasample`."""
        image = image if image.dtype == np.uint8 else image.clip(0, 255).astype(np.uint8)
        meta: Any = self.dataset_meta or {}
        if isinstance(meta, (list, tuple)):  # of the data sets of a ConcatDataset, which have different classes
            meta = meta[getattr(data_sample, 'dataset_index', 0)]
        classes, palette = meta.get('classes'), meta.get('palette')
        panels = []
        if data_sample is not None:
            data_sample = data_sample.cpu()
            if draw_gt:
                panels.append(self._draw_sample(image, data_sample, 'gt', classes, palette, None))
            if draw_pred:
                thresholds = resolve_score_thresholds(pred_score_thr, classes)
                panels.append(self._draw_sample(image, data_sample, 'pred', classes, palette, thresholds))
        panels = [panel for panel in panels if panel is not None]
        if len(panels) == 1:
            self._take(panels[0])
        else:
            self.set_image(np.concatenate(panels, axis=1) if panels else image)
        return self.get_image()

    @master_only
    @one_at_a_time
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: ScoreThresholds = 0.3,
        step: int = 0,
    ) -> None:
        """Draw one picture: ground truth at the left and predictions at the right where both are asked for and there.

        The result is shown, or written to ``out_file``, or handed to the visualization backends.

        Args:
            image: (h, w, 3) RGB, of the size that the boxes of ``data_sample`` refer to.
            wait_time: Seconds that the window stays, 0 for until it is closed.
            pred_score_thr: Only detections with a higher score are drawn: one number, a list by label, a dict by class
                name, or a JSON file of either.
        """
        drawn = self.draw_datasample(image, data_sample, draw_gt, draw_pred, pred_score_thr)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_image(drawn, out_file)
        else:
            self.add_image(name, drawn, step)

    def _draw_sample(self, image, sample, kind, classes, palette, thresholds) -> np.ndarray | None:
        """``image`` with everything of a ``kind`` ('gt' or 'pred'), ``None`` if there is nothing of it."""
        drawn = None
        if f'{kind}_sem_seg' in sample:  # below the instances, whose names are not to be covered
            instances = sample.get(f'{kind}_instances', {})
            named = np.unique(_to_numpy(instances.labels)) if 'labels' in instances else ()  # each for itself
            drawn = self._draw_sem_seg(image, sample.get(f'{kind}_sem_seg'), classes, palette, named)
        if f'{kind}_instances' in sample:
            instances = sample.get(f'{kind}_instances')
            if thresholds is not None and 'scores' in instances:
                instances = above_score_threshold(instances, thresholds)
                instances = instances[instances.scores.argsort()]  # the surest on top
            drawn = self._draw_instances(_or(drawn, image), instances, classes, palette)
        if f'{kind}_panoptic_seg' in sample:
            if classes is None and 'label_names' not in sample.get(f'{kind}_panoptic_seg'):
                raise UserValueError(
                    'drawing a panoptic segmentation needs the class names: set visualizer.dataset_meta'
                )
            drawn = self._draw_panoptic_seg(_or(drawn, image), sample.get(f'{kind}_panoptic_seg'), classes, palette)
        return drawn


def _class_names(labels: np.ndarray, classes: Sequence[str] | None) -> list[str]:
    """Names of labels; numbers where there is no name, or none that a font of this system has the letters of."""
    known = [str(name) for name in classes or ()]
    named = {label for label in set(labels.tolist()) if label < len(known) and not missing_letters(known[label])}
    return [known[label] if label in named else f'class {label}' for label in labels.tolist()]


def _jittered(colors: Sequence[Color], labels: np.ndarray) -> list[Color]:
    """Colours of labels, each a little different from others of its class; the same for the same picture."""
    rng = np.random.default_rng(0)
    return [jitter_color(colors[label], rng) for label in labels]


def _or(drawn: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    return image if drawn is None else drawn


def _to_numpy(value) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return (value.float() if value.dtype is torch.bfloat16 else value).detach().cpu().numpy()
    return np.asarray(value)
