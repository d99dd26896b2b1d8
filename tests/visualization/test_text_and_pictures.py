"""Labels of any language, pictures as they were loaded, windows that are not there, and drawing from threads."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer, LoadedPictures, text
from mmdet.visualization.text import class_names, font_families, missing_letters, plain_text
from mmdet.visualization.window import require_display

GRAY = np.full((120, 160, 3), 128, dtype=np.uint8)


def drawn(name, classes, **fields):
    visualizer = DetLocalVisualizer(name=name)
    visualizer.dataset_meta = {'classes': classes, 'palette': [(255, 0, 0)] * len(classes)}
    pred = InstanceData(
        bboxes=torch.tensor([[20.0, 30, 140, 100]]), labels=torch.tensor([0]), scores=torch.tensor([0.9]), **fields
    )
    visualizer.add_datasample('picture', GRAY, DetDataSample(pred_instances=pred), draw_gt=False)
    return visualizer.get_image()


@pytest.fixture
def font_with_a_letter(tmp_path, monkeypatch):
    """A font of this system that has a letter which no other has: a filled square."""
    fonttools = pytest.importorskip('fontTools.fontBuilder')
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    def glyph(side):
        pen = TTGlyphPen(None)
        if side:
            pen.moveTo((0, 0))
            for point in ((0, side), (side, side), (side, 0)):
                pen.lineTo(point)
            pen.closePath()
        return pen.glyph()

    builder = fonttools.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(['.notdef', 'square'])
    builder.setupCharacterMap({0x4EBA: 'square'})
    builder.setupGlyf({'.notdef': glyph(0), 'square': glyph(900)})
    builder.setupHorizontalMetrics({'.notdef': (1000, 0), 'square': (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({'familyName': 'One Letter', 'styleName': 'Regular'})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / 'letter.ttf')
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: [str(tmp_path / 'letter.ttf')])
    listed = list(font_manager.fontManager.ttflist)
    text._fallback.cache_clear()
    yield 'One Letter'
    font_manager.fontManager.ttflist[:] = listed
    text._fallback.cache_clear()


@pytest.fixture
def messages(monkeypatch):
    found = []
    monkeypatch.setattr(text, 'print_log', lambda message, *args: found.append(message))
    monkeypatch.setattr(text, '_said', set())
    return found


@pytest.mark.parametrize('name', ['$', 'US$ 5 and $x^{', '$\\frac$', 'a\\$b$', 'two\nlines', '{}%s_^', ''])
def test_names_of_classes_are_no_formulas(name):
    assert (drawn('formula', (name,)) != drawn('formula', (' ',))).any() or not name


def test_dollars_are_drawn_as_they_are():
    assert plain_text('$a$') == r'\$a\$'
    with_dollars, without = drawn('dollars', ('$a$',)), drawn('dollars', ('a',))
    assert (with_dollars != without).sum() > 20


def test_letters_of_other_fonts(font_with_a_letter, messages):
    assert font_families('person') == ['sans-serif'] and font_families('人') == ['sans-serif', font_with_a_letter]
    assert not missing_letters('a人') and plain_text('人$') == r'人\$' and not messages
    picture = drawn('letters', ('人人人人',))
    dark = drawn('letters', ('    ',))
    assert (picture != dark).any(-1).sum() > 100  # four squares


def test_letters_that_no_font_has(messages):
    letter = '\u0378'  # is none
    # numbers stand for names; it is said once
    assert np.array_equal(drawn('missing', (letter,)), drawn('missing', ('class 0',)))
    assert plain_text(f'a{letter}') == 'a?' and missing_letters(letter)
    assert class_names(['a', letter, '$']) == ['a', 'class 1', '$']
    assert len(messages) == 1 and 'fonts-noto-cjk' in messages[0]


def test_damaged_fonts_are_passed_over(tmp_path):
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    assert text._letters_of(str(tmp_path / 'broken.ttf')) == frozenset()


def test_nothing_is_taken_from_the_global_random_numbers():
    masks = torch.zeros(1, 120, 160, dtype=torch.bool)
    masks[0, 30:100, 20:140] = True
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    first = drawn('random', ('a',), masks=masks)
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.seed(4)
    assert np.array_equal(drawn('random', ('a',), masks=masks), first)


def test_threads_may_share_a_visualizer():
    visualizer = DetLocalVisualizer(name='threads')
    visualizer.dataset_meta = {'classes': ('cat',), 'palette': [(255, 0, 0)]}

    def draw(value):
        box = InstanceData(bboxes=torch.tensor([[10.0, 10, 50 + value, 60]]), labels=torch.tensor([0]))
        image = np.full((80 + value, 120, 3), value, np.uint8)
        return visualizer.draw_datasample(image, DetDataSample(gt_instances=box))

    expected = [draw(value) for value in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(draw, range(16)), expected, strict=True):
            assert np.array_equal(found, right)


# --------------------------------------------------------------------------------------------------------- windows


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='other systems always have windows')
def test_a_window_is_refused_where_there_is_no_display(monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match=r'no display.*DISPLAY.*write them'):
        require_display('write them')
    with pytest.raises(RuntimeError, match='no display'):
        require_display(by='cv2')
    with pytest.raises(RuntimeError, match='no display'):
        DetLocalVisualizer(name='window').add_datasample('x', GRAY, None, show=True)


@pytest.mark.parametrize('backend', ['module://matplotlib_inline.backend_inline', 'nbAgg', 'WebAgg'])
def test_browsers_need_no_display(monkeypatch, backend):
    import matplotlib

    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.setattr(matplotlib, 'get_backend', lambda: backend)
    require_display()


# ------------------------------------------------------------------------------------------------ pictures as loaded


@pytest.fixture
def turned(tmp_path):
    """A picture 40 wide and 20 high, whose EXIF data say that it is to be turned by 90 degrees."""
    pillow = pytest.importorskip('PIL.Image')
    image = pillow.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[None, :, None] * 6, 20, 0).repeat(3, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    return str(tmp_path / 'turned.jpg')


def dataset(*loaders, root=''):
    return SimpleNamespace(pipeline=SimpleNamespace(transforms=list(loaders)), data_prefix=dict(img=root))


@pytest.mark.parametrize(
    ('options', 'shape'),
    [
        ({}, (40, 20, 3)),
        ({'color_type': 'color_ignore_orientation'}, (20, 40, 3)),
        ({'color_type': 'unchanged'}, (20, 40, 3)),
        ({'imdecode_backend': 'pillow'}, (40, 20, 3)),
        ({'color_type': 'grayscale'}, (40, 20, 3)),
        ({'to_float32': True}, (40, 20, 3)),
    ],
)
def test_pictures_are_loaded_as_the_pipeline_does(turned, default_scope, options, shape):
    from mmdet.registry import TRANSFORMS

    loader = TRANSFORMS.build(dict(type='LoadImageFromFile', **options))
    found = LoadedPictures(dataset(loader))(turned)
    assert found.shape == shape and found.dtype == np.uint8 and found.max() > 200


def test_pictures_without_a_pipeline(turned):
    assert LoadedPictures()(turned).shape == LoadedPictures(dataset())(turned).shape == (40, 20, 3)


def test_pictures_of_several_data_sets(turned, tmp_path, default_scope):
    from mmdet.registry import TRANSFORMS

    ignoring = TRANSFORMS.build(dict(type='LoadImageFromFile', color_type='color_ignore_orientation'))
    plain = TRANSFORMS.build(dict(type='LoadImageFromFile'))
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'turned.jpg').write_bytes((tmp_path / 'turned.jpg').read_bytes())
    first, second = dataset(plain, root=str(tmp_path)), dataset(ignoring, root=str(other))
    wrapped = SimpleNamespace(datasets=[first, SimpleNamespace(dataset=second, metainfo={})])
    pictures = LoadedPictures(wrapped)
    assert pictures(turned).shape == (40, 20, 3) and pictures(str(other / 'turned.jpg')).shape == (20, 40, 3)
    assert pictures.names(turned) == 'turned.jpg' and pictures.names(other / 'turned.jpg') == 'other/turned.jpg'


def test_deep_pictures_are_drawn_in_eight_bits(tmp_path, default_scope):
    from mmdet.registry import TRANSFORMS

    cv2.imwrite(str(tmp_path / 'deep.png'), np.full((8, 8), 40000, np.uint16))
    loader = TRANSFORMS.build(dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True))
    assert (LoadedPictures(dataset(loader))(str(tmp_path / 'deep.png')) == 156).all()
