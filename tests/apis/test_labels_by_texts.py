import json

import pytest
from test_texts import files, inferencer  # noqa: F401 (fixtures)

from mmdet.apis.auto_label import label_folder
from mmdet.errors import UserError


def test_a_folder_is_labelled_by_texts(inferencer, files, tmp_path):  # noqa: F811
    folder = next(path for path in files.rglob('*') if path.suffix in ('.png', '.jpg')).parent
    labels = label_folder(inferencer, folder, tmp_path, texts='dog . cat .', score_thr=0.0)
    assert labels.names == ['dog', 'cat'] and labels.annotations
    lines = [json.loads(line) for line in (tmp_path / 'odvg.json').read_text().splitlines()]
    found = {(entry['label'], entry['category']) for line in lines for entry in line['detection']['instances']}
    assert found <= {(0, 'dog'), (1, 'cat')}
    with pytest.raises(UserError, match='give texts'):
        label_folder(inferencer, folder, tmp_path)
