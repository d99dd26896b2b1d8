import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'picture_sheet.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('picture_sheet', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill_folder(folder, count):
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f'{index:02d}.png'), np.full((20, 30, 3), 10 * index, np.uint8))


def test_pictures_are_spread_over_the_folder(tool, tmp_path):
    fill_folder(tmp_path / 'pictures', 9)
    (tmp_path / 'pictures' / 'notes.txt').write_text('no picture')
    assert [path.name for path in tool.find_pictures(tmp_path, 3)] == ['00.png', '04.png', '08.png']
    assert len(tool.find_pictures(tmp_path, 20)) == 9


def test_sheet(tool, tmp_path, capsys):
    fill_folder(tmp_path / 'pictures', 5)
    tool.main([str(tmp_path / 'pictures'), str(tmp_path / 'new' / 'sheet.png'), '--columns', '2', '--size', '60', '40'])
    sheet = cv2.imread(str(tmp_path / 'new' / 'sheet.png'))
    height, width = sheet.shape[:2]
    assert 2 * 60 <= width < 3 * 60 and 3 * 40 <= height < 4 * 40
    assert '5 pictures' in capsys.readouterr().out


def test_mistakes_are_named(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no picture'):
        tool.main([str(tmp_path), str(tmp_path / 'sheet.png')])
    (tmp_path / 'broken.jpg').write_text('broken')
    with pytest.raises(ValueError, match=r'broken.jpg. cannot be decoded'):
        tool.main([str(tmp_path), str(tmp_path / 'sheet.png')])
