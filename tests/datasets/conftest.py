import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def coco_file(tmp_path):
    """Writes three pictures of 80x60 and a COCO file with ``annotations`` by image; returns a dataset's arguments.

    ``replaced`` gives other values for the keys of the file; ``None`` leaves a key out.
    """

    def write(annotations=None, categories=('cat', 'dog', 'cow'), name='ann.json', replaced=()):
        if annotations is None:
            annotations = {1: [dict(category_id=1, bbox=[10, 20, 30, 20])], 2: [dict(category_id=2, bbox=[0, 0, 8, 8])]}
        images, entries = [], []
        for image_id in (1, 2, 3):
            file_name = f'{image_id}.jpg'
            cv2.imwrite(str(tmp_path / file_name), np.full((60, 80, 3), 40 * image_id, np.uint8))
            images.append(dict(id=image_id, file_name=file_name, width=80, height=60))
            for ann in annotations.get(image_id, []):
                x, y, w, h = ann['bbox']
                entries.append(
                    {'id': len(entries) + 1, 'image_id': image_id, 'area': w * h, 'iscrowd': 0, 'bbox': [x, y, w, h]}
                    | ann
                )
        if categories and isinstance(categories[0], str):
            categories = [dict(id=i, name=label) for i, label in enumerate(categories, 1)]
        content = dict(images=images, annotations=entries, categories=list(categories)) | dict(replaced)
        (tmp_path / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        return dict(ann_file=name, data_root=str(tmp_path), data_prefix=dict(img=''))

    return write
