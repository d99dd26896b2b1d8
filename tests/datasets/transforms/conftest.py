import numpy as np
import pytest

from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

BOXES = [[5, 5, 30, 25], [20, 10, 60, 50], [40, 30, 70, 55]]


@pytest.fixture
def sample():
    """Makes a loaded sample of 80x60 with up to three boxes, masks that fill them and five keypoints in each."""

    def make(boxes=BOXES, masks=None, keypoints=False, height=60, width=80, **extra):
        boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        count = len(boxes)
        y, x = np.mgrid[:height, :width]
        results = dict(
            img=np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8),
            img_id=1,
            img_path='x.jpg',
            img_shape=(height, width),
            ori_shape=(height, width),
            gt_bboxes=HorizontalBoxes(boxes),
            gt_bboxes_labels=np.arange(count),
            gt_ignore_flags=np.zeros(count, dtype=bool),
        )
        if masks == 'polygon':
            polygons = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=float)] for x1, y1, x2, y2 in boxes]
            results['gt_masks'] = PolygonMasks(polygons, height, width)
        elif masks == 'bitmap':
            bitmaps = np.zeros((count, height, width), np.uint8)
            for bitmap, (x1, y1, x2, y2) in zip(bitmaps, boxes.astype(int), strict=True):
                bitmap[y1:y2, x1:x2] = 1
            results['gt_masks'] = BitmapMasks(bitmaps, height, width)
        if keypoints:
            points = boxes[:, None, :2] + np.arange(5)[:, None] * (1, 2)
            results['gt_keypoints'] = np.concatenate([points, np.ones((count, 5, 1))], -1).astype(np.float32)
            results['flip_indices'] = (1, 0, 2, 4, 3)
        return results | extra

    return make
