"""Files and arrays that are pictures, and what is said of those that are none."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmdet.errors import UserError
from mmdet.utils.pictures import array_of, as_picture, decode_picture, picture_size, read_header, read_picture

RGB = np.kron(np.random.default_rng(0).integers(0, 255, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # 24 x 32
BGR = RGB[..., ::-1]
GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)


def encoded(image, kind='PNG', **options):
    """The bytes of a file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, depth=8):
    """The beginning of a PNG file of any size; its pixels are compressed zeros."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, depth, 2, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(9999))) + chunk(b'IEND', b'')
    )


FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF', 'PPM', 'JPEG2000')


@pytest.mark.parametrize('kind', FORMATS)
def test_formats_whatever_the_suffix(kind, tmp_path):
    path = tmp_path / 'picture.jfif'
    path.write_bytes(encoded(RGB, kind))
    found = read_picture(path)
    assert found.dtype == np.uint8 and found.shape == (24, 32, 3)
    assert np.abs(found.astype(int) - BGR).mean() < 25
    assert picture_size(str(path)) == (32, 24)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('kind', FORMATS)
@pytest.mark.parametrize('part', [0.1, 0.5, 0.8])
def test_cut_files(kind, part, backend):
    content = encoded(RGB, kind)
    with pytest.raises(ValueError, match=r"^image 'a.x' cannot be decoded: [^\n]+$"):
        decode_picture(content[: int(len(content) * part)], 'a.x', backend=backend)


def test_a_cut_jpeg_with_a_whole_thumbnail():
    thumbnail = encoded(RGB, 'JPEG')
    content = encoded(RGB, 'JPEG')
    segment = b'\xff\xe1' + struct.pack('>H', len(thumbnail) + 2) + thumbnail
    whole = content[:2] + segment + content[2:]
    assert np.array_equal(decode_picture(whole, 'a'), decode_picture(content, 'a'))
    assert np.array_equal(decode_picture(whole + bytes(500), 'a'), decode_picture(content, 'a'))
    with pytest.raises(ValueError, match='the JPEG file is cut short'):
        decode_picture(whole[:-40], 'a')


@pytest.mark.parametrize(
    ('mode', 'kind', 'expected'),
    [
        ('L', 'PNG', np.repeat(GREY[..., None], 3, 2)),
        ('L', 'JPEG', None),
        ('1', 'PNG', None),
        ('LA', 'PNG', None),
        ('P', 'PNG', None),
        ('P', 'GIF', None),
        ('RGBA', 'PNG', BGR),
        ('RGBA', 'TIFF', BGR),
        ('CMYK', 'TIFF', BGR),
        ('CMYK', 'JPEG', None),
    ],
)
def test_modes(mode, kind, expected):
    image = Image.fromarray(GREY if mode == 'L' else RGB)
    image = image if mode == 'L' else image.convert(mode)
    found = decode_picture(encoded(image, kind), 'a')
    if expected is None:
        expected = np.asarray(image.convert('RGB'))[..., ::-1]
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < (25 if kind == 'JPEG' else 0.01)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_of_several_frames_the_first(kind):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (10, 100, 200)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert (decode_picture(content, 'a') == 10).all()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_turned_by_exif(kind, tmp_path):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6
    path = tmp_path / 'a.jpg'
    path.write_bytes(encoded(image, kind, exif=exif))
    assert read_picture(path).shape == (32, 24, 3)
    assert picture_size(str(path)) == (24, 32)
    with Image.open(path) as opened:
        assert array_of(opened).shape == (32, 24, 3)


@pytest.mark.parametrize('name', ['.png', '.tiff', '.ppm'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_sixteen_bits_keep_the_upper_eight(name, backend):
    content = cv2.imencode(name, BGR.astype(np.uint16) * 257)[1].tobytes()
    assert np.array_equal(decode_picture(content, 'a', backend=backend), BGR)
    assert decode_picture(content, 'a', flag='unchanged').dtype == np.uint16


@pytest.mark.parametrize(
    ('pixels', 'setting', 'expected'),
    [
        (BGR.astype(np.uint16) << 4, None, BGR),  # nothing above 4095
        (BGR.astype(np.uint16), None, BGR),  # bytes in a file of 16 bits
        (BGR.astype(np.uint16) << 4, 16, BGR >> 4),
        (BGR.astype(np.uint16) << 2, 10, BGR),
        (GREY.astype(np.uint16) << 4, None, np.repeat(GREY[..., None], 3, 2)),
    ],
)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_depth_of_a_png(pixels, setting, expected, backend):
    content = cv2.imencode('.png', pixels)[1].tobytes()
    assert np.array_equal(decode_picture(content, 'a', backend=backend, bit_depth=setting), expected)
    assert np.array_equal(as_picture(pixels, bit_depth=setting), expected)


def test_depths_that_the_file_says():
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for bits in (10, 12):
        pnm = b'P5\n# made by hand\n16 16\n%d\n' % (2**bits - 1) + (values << (bits - 8)).astype('>u2').tobytes()
        assert np.array_equal(decode_picture(pnm, 'a', bit_depth=16)[..., 0], values)
    packed = ''.join(f'{value << 4:012b}' for value in values.ravel())
    data = int(packed, 2).to_bytes(len(packed) // 8, 'big')
    short, tags = 3, {256: 16, 257: 16, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: len(data)}
    tiff = b'II*\0' + struct.pack('<I', 8 + len(data)) + data + struct.pack('<H', len(tags))
    tiff += b''.join(struct.pack('<HHIHH', tag, short, 1, value, 0) for tag, value in tags.items()) + bytes(4)
    assert np.array_equal(decode_picture(tiff, 'a', bit_depth=12)[..., 0], values)
    parts = (values / 255).astype(np.float32)
    assert np.array_equal(decode_picture(encoded(parts, 'TIFF'), 'a')[..., 0], values)
    three = cv2.imencode('.tiff', np.dstack([parts] * 3))[1].tobytes()
    assert np.array_equal(decode_picture(three, 'a')[..., 0], values)


def test_more_bits_than_the_setting():
    with pytest.raises(ValueError, match="image 'a' holds 4080, which has more than bit_depth=10 bits"):
        content = cv2.imencode('.png', np.full((3, 4), 4080, np.uint16))[1].tobytes()
        decode_picture(content, 'a', bit_depth=10)


ALPHA = np.full((24, 32, 1), 7, np.uint8)


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (BGR, BGR),
        (BGR[::-1][::-1], BGR),
        (np.asfortranarray(BGR), BGR),
        (np.concatenate([BGR, ALPHA], 2), BGR),
        (GREY, np.repeat(GREY[..., None], 3, 2)),
        (GREY[..., None], np.repeat(GREY[..., None], 3, 2)),
        (np.dstack([GREY, GREY // 2]), np.repeat(GREY[..., None], 3, 2)),
        (BGR / 255, BGR),
        ((BGR / 255).astype(np.float32), BGR),
        ((BGR / 255).astype(np.float16), BGR),
        (BGR.astype(np.float32), BGR),
        (BGR.astype(np.int64), BGR),
        (BGR.astype(np.uint16) * 257, BGR),
        (BGR.astype('>u2') * 257, BGR),
        (BGR.astype(np.int32) << 4, BGR),
        (BGR.astype(np.float32) * 257, BGR),
        (BGR / 255 * 1.0005 - 0.0002, BGR),  # as resampling leaves it
        (GREY > 100, np.repeat((GREY > 100)[..., None] * np.uint8(255), 3, 2)),
        (torch.from_numpy(RGB.copy()).permute(2, 0, 1), BGR),
        (torch.from_numpy(RGB / 255).permute(2, 0, 1), BGR),
        (torch.from_numpy(RGB / 255).permute(2, 0, 1).bfloat16(), None),
        (torch.from_numpy(RGB / 255).permute(2, 0, 1).requires_grad_(), BGR),
        (torch.from_numpy(np.concatenate([RGB, ALPHA], 2)).permute(2, 0, 1), BGR),
        (torch.from_numpy(GREY)[None], np.repeat(GREY[..., None], 3, 2)),
        (torch.from_numpy(GREY), np.repeat(GREY[..., None], 3, 2)),
        (torch.from_numpy(BGR.copy()), BGR),
        (Image.fromarray(RGB), BGR),
        (Image.fromarray(RGB).convert('RGBA'), BGR),
        (Image.fromarray(RGB).convert('CMYK'), BGR),
        (Image.fromarray(GREY), np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray((GREY / 255).astype(np.float32)), np.repeat(GREY[..., None], 3, 2)),
        (Image.fromarray(GREY > 100), np.repeat((GREY > 100)[..., None] * np.uint8(255), 3, 2)),
    ],
)
def test_arrays_mean_what_their_file_means(array, expected):
    found = as_picture(array_of(array))
    assert found.dtype == np.uint8 and found.shape == (24, 32, 3)
    if expected is None:  # a bfloat16 has eight bits itself
        assert np.abs(found.astype(int) - BGR).max() <= 1
    else:
        assert np.array_equal(found, expected)


def test_grey_and_unchanged():
    grey = cv2.cvtColor(BGR.copy(), cv2.COLOR_BGR2GRAY)
    for array in (BGR, BGR / 255, np.concatenate([BGR, ALPHA], 2)):
        assert np.array_equal(as_picture(array, 'grayscale'), grey)
    assert np.array_equal(as_picture(GREY[..., None], 'grayscale'), GREY)
    stack = np.zeros((4, 4, 7), np.float32)
    assert as_picture(stack, 'unchanged') is stack


@pytest.mark.parametrize(
    ('array', 'words'),
    [
        (np.zeros(3), r'has the shape \(3,\)'),
        (np.zeros((2, 0, 3)), r'has the shape \(2, 0, 3\)'),
        (np.zeros((1, 3, 4, 4)), r'has the shape \(1, 3, 4, 4\)'),
        (np.zeros((4, 4, 7)), "has 7 channels.*color_type='unchanged'"),
        (np.full((4, 4), np.nan), '.* not finite'),
        (np.full((4, 4, 3), -1.9), r'holds -1.9.*is it normalised\?'),
        (np.full((4, 4, 3), -1), 'holds -1'),
        (np.full((4, 4, 3), 70000), 'holds 70000'),
        (np.full((4, 4, 3), 1j), 'holds complex128'),
        (np.full((4, 4), 'a'), 'holds <U1'),
    ],
)
def test_arrays_that_are_no_pictures(array, words):
    with pytest.raises(UserError, match=f'^input 3 {words}'):
        as_picture(array, name='input 3')


def test_files_that_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'file').write_text('no folder')
    for name, words in {
        'pipe': 'is no regular file',
        '/dev/zero': 'is no regular file',
        'folder.jpg': 'is a folder',
        'file/a.jpg': 'cannot be read: Not a directory',
        'nothing.jpg': 'does not exist$',
        'nowhere/a.jpg': 'nor is there a folder .*look at data_prefix',
        f'{"x" * 300}.jpg': 'cannot be read: File name too long',
        'file': 'cannot be decoded: its 9 bytes are no whole picture',
    }.items():
        for read in (read_picture, picture_size):
            with pytest.raises(UserError, match=words if read is read_picture or name != 'file' else 'identify'):
                read(str(tmp_path / name))


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    bomb = tmp_path / 'bomb.png'
    bomb.write_bytes(png_of(30000, 30000))
    with pytest.raises(ValueError, match=r'bomb.png. cannot be decoded: it has 900,000,000 pixels, .* of 178,956,970'):
        read_picture(bomb)
    huge = Image.fromarray(np.zeros((16, 16), np.uint8))
    for kind in FORMATS:
        content = encoded(huge, kind)
        monkeypatch.setenv('MMDET_MAX_PIXELS', '255')
        with pytest.raises(ValueError, match=r'it has 256 pixels, .*MMDET_MAX_PIXELS raises it'):
            decode_picture(content, 'a')
        with pytest.raises(ValueError, match='has 256 pixels'):
            array_of(huge)
        monkeypatch.setenv('MMDET_MAX_PIXELS', '256')
        assert decode_picture(content, 'a').shape == (16, 16, 3)
    (tmp_path / 'long.jpg').write_bytes(bytes(5000))
    with pytest.raises(ValueError, match='has 5,000 bytes, more than the limit of 256 pixels allows'):
        read_picture(tmp_path / 'long.jpg')
    monkeypatch.setenv('MMDET_MAX_PIXELS', 'many')
    with pytest.raises(ValueError, match="MMDET_MAX_PIXELS is 'many'"):
        read_picture(bomb)


def test_a_raised_limit_holds_for_every_format(monkeypatch):
    bmp = bytearray(encoded(np.zeros((1, 1, 3), np.uint8), 'BMP'))
    struct.pack_into('<ii', bmp, 18, 20000, 20000)  # twice what Pillow takes
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 89_478_485)  # Pillow's own, which other tests may have raised
    assert read_header(bytes(bmp))[:2] == (400_000_000, 1)
    monkeypatch.setenv('MMDET_MAX_PIXELS', '400000000')
    assert read_header(bytes(bmp))[:2] == (20000, 20000)


@pytest.mark.parametrize('url', ['http://127.0.0.1:9/a.jpg', 'nothing://a.jpg'])
def test_addresses_that_do_not_answer(url):
    with pytest.raises(OSError, match=rf'^image .{url}. cannot be fetched: [^\n]+$') as caught:
        read_picture(url)
    assert isinstance(caught.value, UserError)


def test_absent_backend():
    pytest.importorskip('mmcv')
    with pytest.raises(UserError, match="imdecode_backend='turbojpeg'"):
        decode_picture(encoded(RGB, 'JPEG'), 'a', backend='turbojpeg')
