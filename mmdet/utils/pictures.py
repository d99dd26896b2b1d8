"""Files and arrays to pictures: the one place that decodes.

A picture is (h, w, 3), BGR, uint8, turned as its EXIF data say, its transparency left out; of several frames it is the
first. Pixels of more than 8 bits are brought to 8, as :func:`as_picture` says.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import struct
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log

from mmdet.errors import UserFileError, UserImportError, UserTypeError, UserValueError

PICTURE_SUFFIXES = (
    *('.jpg', '.jpeg', '.jfif', '.jpe', '.png', '.ppm', '.bmp', '.pgm', '.pnm', '.tif', '.tiff', '.webp'),
    *('.gif', '.jp2', '.avif'),
)
MAX_PIXELS = 178_956_970  # where Pillow refuses too: half a gigabyte of RGB
LIMIT_VARIABLE = 'MMDET_MAX_PIXELS'
BYTES_OF_A_PIXEL = 16  # four channels of 32 bits, uncompressed
TURNED_BY_EXIF = ('JPEG', 'MPO', 'PNG', 'WEBP')  # as the decoders do; Pillow gives the size of a TIFF turned

PNG = b'\x89PNG\r\n\x1a\n'

_said: set[str] = set()


def pixel_limit() -> int:
    """The largest picture that is decoded, in pixels; the environment variable ``MMDET_MAX_PIXELS`` sets it."""
    given = os.environ.get(LIMIT_VARIABLE)
    if given is None:
        return MAX_PIXELS
    if not given.isdecimal() or int(given) < 1:
        raise UserValueError(f'the environment variable {LIMIT_VARIABLE} is {given!r}, not a number of pixels')
    return int(given)


# --------------------------------------------------------------------------------------------------------------------
# Files
def read_picture(
    path: str | os.PathLike,
    backend_args: dict | None = None,
    flag: str = 'color',
    backend: str = 'cv2',
    bit_depth: int | None = None,
) -> np.ndarray:
    """Decode a picture file or URL.

    Args:
        flag: 'color', 'grayscale' (h, w) or 'unchanged' (channels, orientation and depth as in the file), as mmcv's.
        backend: 'cv2', 'pillow', 'turbojpeg' or 'tifffile', as mmcv's.
        bit_depth: As in :func:`as_picture`.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be read.
        ValueError: it is no picture, is cut short, or has more than :func:`pixel_limit` pixels.
    """
    path = os.fspath(path)
    return decode_picture(read_bytes(path, backend_args), path, flag, backend, bit_depth)


def read_bytes(path: str, backend_args: dict | None = None) -> bytes:
    """The content of a picture file or URL; raises as :func:`read_picture` does."""
    if is_local(path, backend_args):
        return _read_local(path)
    from mmengine import fileio

    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise UserFileError(f'image {path!r} does not exist') from None
    except ImportError as error:
        raise UserImportError(f'image {path!r} cannot be fetched: {error}') from error
    except Exception as error:
        raise UserFileError(f'image {path!r} cannot be fetched: {error}') from error


def is_local(path: str, backend_args: dict | None = None) -> bool:
    """Whether a path is one of this machine's files."""
    return '://' not in path and (backend_args is None or backend_args == {'backend': 'local'})


def _read_local(path: str, size: int = -1) -> bytes:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise UserFileError(f'image {path!r} is a folder')
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise UserFileError(f'image {path!r} is no regular file')
        if found.st_size > BYTES_OF_A_PIXEL * pixel_limit():
            raise UserValueError(f'image {path!r} has {found.st_size:,} bytes, {_more_than_allowed()}')
        with open(path, 'rb') as file:
            return file.read(size)
    except UserFileError:
        raise
    except FileNotFoundError:
        folder = os.path.dirname(path)
        hint = f' (nor is there a folder {folder!r}: look at data_prefix)' if not os.path.isdir(folder or '.') else ''
        raise UserFileError(f'image {path!r} does not exist{hint}') from None
    except OSError as error:
        raise UserFileError(f'image {path!r} cannot be read: {error.strerror}') from None


def _more_than_allowed() -> str:
    limit = pixel_limit()
    return f'more than the limit of {limit:,} pixels allows; the environment variable {LIMIT_VARIABLE} raises it'


class Header(NamedTuple):
    """What the first bytes of a picture file say.

    Attributes:
        deep: Whether its pixels have more than eight bits, and the decoder does not bring them to eight itself.
        depth: How many they have, where the file says it.
        scan: Place from which the pixels of a JPEG follow; None in other formats.
    """

    width: int
    height: int
    deep: bool = False
    depth: int | None = None
    scan: int | None = None


def read_header(content: bytes) -> Header | None:
    """Size and depth of a picture, without decoding it; None where the bytes are no picture in a known format."""
    if content.startswith(b'\xff\xd8'):
        return _jpeg_header(content)
    if content.startswith(PNG) and content[12:16] == b'IHDR' and len(content) > 24:
        width, height, bits = struct.unpack_from('>IIB', content, 16)
        return Header(width, height, bits == 16)
    radiance = content.startswith((b'#?RADIANCE', b'#?RGBE')) and re.search(
        rb'\n[-+]Y (\d+) [-+]X (\d+)\n', content[:8192]
    )
    if radiance:
        return Header(int(radiance[2]), int(radiance[1]), True)
    return _header_by_pillow(content)


def _jpeg_header(content: bytes) -> Header | None:
    position = 2
    while 0 <= position <= len(content) - 9:
        marker = content[position + 1]
        if content[position] != 0xFF or marker == 0xFF:  # stray or filling bytes, which decoders skip
            position = content.find(b'\xff', position + 1)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', content, position + 5)
            return Header(width, height, scan=position)
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    return None


def _has_all_chunks(content: bytes) -> bool:
    """Whether each chunk of a PNG lies within the file: a decoder makes room for what a chunk says of itself."""
    position = len(PNG)
    while position + 12 <= len(content):
        if content[position + 4 : position + 8] == b'IEND':
            return True
        position += 12 + int.from_bytes(content[position : position + 4], 'big')
    return False


def _header_by_pillow(content: bytes) -> Header | None:
    from PIL import Image

    try:
        with _open_by_pillow(io.BytesIO(content)) as image:
            if image.format == 'TIFF':
                return _of_tiff_tags(image.tag_v2)
            width, height = image.size
            if image.format == 'PPM' and content[:2] in (b'P2', b'P3', b'P5', b'P6'):
                bits = _maximum_of_pnm(content).bit_length()
                return Header(width, height, bits > 8, bits if bits < 16 else None)
            return Header(width, height)
    except Image.DecompressionBombError as error:  # "Image size (900000000 pixels) exceeds ..."
        pixels = re.search(r'(\d+) pixels', str(error))
        return Header(int(pixels[1]) if pixels else 1 << 62, 1)
    except Exception:
        return _tiff_header(content)


def _open_by_pillow(source: str | io.BytesIO) -> Any:
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS is not None and pixel_limit() > MAX_PIXELS:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, pixel_limit())
    return Image.open(source)


def _maximum_of_pnm(content: bytes) -> int:
    fields = re.sub(rb'#[^\n]*\n', b' ', content[:4096]).split(maxsplit=4)
    return int(fields[3])


def _tiff_header(content: bytes) -> Header | None:
    """Of a TIFF file with pixels that Pillow has no mode for, such as three floats."""
    from PIL import TiffImagePlugin

    if content[:4] not in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
        return None
    try:
        file = io.BytesIO(content)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if b'+' in content[:4] else 8))
        file.seek(tags.next)
        tags.load(file)
        return _of_tiff_tags(tags)
    except Exception:
        return None


def _of_tiff_tags(tags: Any) -> Header:
    bits = max(tags.get(258, (8,)))
    return Header(int(tags[256]), int(tags[257]), bits > 8, 16 if 8 < bits < 16 else None)  # OpenCV fills them up to 16


def decode_picture(
    content: bytes, name: str, flag: str = 'color', backend: str = 'cv2', bit_depth: int | None = None
) -> np.ndarray:
    """As :func:`read_picture`, from the content of a file; ``name`` is what to call it in messages."""
    failure = f'image {name!r} cannot be decoded'
    if not content:
        raise UserValueError(f'{failure}: it is empty')
    header = read_header(content)
    if header is None:
        raise UserValueError(f'{failure}: its {len(content)} bytes are no whole picture in a known format')
    if header.width * header.height > pixel_limit():
        raise UserValueError(f'{failure}: it has {header.width * header.height:,} pixels, {_more_than_allowed()}')
    if header.scan is not None and content.rfind(b'\xff\xd9') < header.scan:
        raise UserValueError(f'{failure}: the JPEG file is cut short after {len(content)} bytes')
    if content.startswith(PNG) and not _has_all_chunks(content):
        raise UserValueError(f'{failure}: the PNG file is cut short after {len(content)} bytes, or damaged')
    try:
        img = _decode(content, flag, backend, header.deep)
    except UserImportError:
        raise
    except Exception as error:
        raise UserValueError(f'{failure}: {_first_line(error)}') from error
    if img is None:
        raise UserValueError(f'{failure}: its {len(content)} bytes are damaged or cut short')
    return as_picture(img, flag, header.depth or bit_depth, f'image {name!r}') if header.deep else img


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _decode(content: bytes, flag: str, backend: str, deep: bool) -> np.ndarray | None:
    import cv2
    import mmcv
    from mmcv.image.io import imread_flags

    if 'silent' not in _said and 'OPENCV_LOG_LEVEL' not in os.environ:
        _said.add('silent')  # what it would print is in the error
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if not deep:
        try:
            return mmcv.imfrombytes(content, flag=flag, backend=backend)
        except ImportError as error:
            raise UserImportError(f'imdecode_backend={backend!r}: {_first_line(error)}') from None
        except (AttributeError, TypeError) as error:
            if backend in ('turbojpeg', 'tifffile'):  # mmcv's name of a package that is not there is None
                raise UserImportError(f'imdecode_backend={backend!r} needs a package that is not installed') from error
            raise
    data = np.frombuffer(content, np.uint8)
    img = cv2.imdecode(data, imread_flags[flag] | (0 if flag == 'unchanged' else cv2.IMREAD_ANYDEPTH))
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if img is None else img  # a single channel of 32 bits


def picture_size(path: str, backend_args: dict | None = None) -> tuple[int, int]:
    """Width and height of a picture file as it is read, turned as its EXIF data say; it is not decoded.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_picture` does.
    """
    local = is_local(path, backend_args)
    if local:
        _read_local(path, 0)
    try:
        with _open_by_pillow(path if local else io.BytesIO(read_bytes(path, backend_args))) as image:
            turned = image.format in TURNED_BY_EXIF and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size[:: -1 if turned else 1]
    except UserFileError:
        raise
    except Exception as error:
        header = read_header(read_bytes(path, backend_args))
        if header is None:
            raise UserValueError(f'image {path!r} cannot be read: {_first_line(error)}') from None
        return header.width, header.height


# --------------------------------------------------------------------------------------------------------------------
# Arrays
def as_picture(
    array: np.ndarray, flag: str = 'color', bit_depth: int | None = None, name: str = 'the array'
) -> np.ndarray:
    """What an array (h, w) or (h, w, channels; BGR) means as a picture: the same as a file with these pixels.

    Bools are black and white, floats up to 1 are parts of white. Other numbers are of the fewest of 8, 12 or 16 bits
    that hold the largest of them, and the upper eight bits are taken.

    Args:
        flag: As in :func:`read_picture`; 'unchanged' gives the array back.
        bit_depth: The number of bits in place of that, for pixels that are not bytes.
        name: What to call it in messages.

    Raises:
        ValueError: numbers or channels that no picture has.
    """
    if flag == 'unchanged':
        return array
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserValueError(f'{name} has the shape {array.shape}, a picture has (h, w) or (h, w, channels)')
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels > 4:
        raise UserValueError(
            f"{name} has {channels} channels, a picture has 1 to 4; color_type='unchanged' of the loader keeps them"
        )
    if array.ndim == 3:
        array = array[..., 0] if channels < 3 else array[..., :3]
    array = array if array.dtype == np.uint8 else _eight_bits(array, bit_depth, name)
    if flag.startswith('grayscale'):
        if array.ndim == 3:
            import cv2

            array = cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_BGR2GRAY)
        return array
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    return array


def _eight_bits(array: np.ndarray, bit_depth: int | None, name: str) -> np.ndarray:
    kind = array.dtype.kind
    if kind == 'b':
        return array.astype(np.uint8) * np.uint8(255)
    if kind not in 'uif':
        raise UserTypeError(f'{name} holds {array.dtype}, a picture holds numbers')
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserValueError(f'{name} holds numbers that are not finite')
    if low < -0.01 * max(high, 1):  # a resampled picture may swing a little below black
        raise UserValueError(f'{name} holds {low:g}; the pixels of a picture are not negative (is it normalised?)')
    if high > 65535:
        raise UserValueError(f'{name} holds {high:g}; the pixels of a picture are at most 65535')
    if kind == 'f':
        if high <= 1.5:  # and a little above white
            return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
        array = np.rint(np.clip(array, 0, None))
        high = float(array.max())
    depth = bit_depth or next(bits for bits in (8, 12, 16) if high < 1 << bits)
    if high >= 1 << depth:
        raise UserValueError(f'{name} holds {high:g}, which has more than bit_depth={depth} bits')
    if depth not in (8, 16) and bit_depth is None:
        text = f'{name} is read as a picture of 12 bits, since it holds nothing above {high:g}'
        say_once('depth', f'{text}; bit_depth=16 of the loader says otherwise. This is said once.')
    return (array.astype(np.uint16) >> max(depth - 8, 0)).astype(np.uint8)


def say_once(subject: str, text: str) -> None:
    """Warn, the first time that a process comes upon a subject."""
    if subject not in _said:
        _said.add(subject)
        print_log(text, logger='current', level=logging.WARNING)


def array_of(item: Any, name: str = 'the input') -> Any:
    """A Pillow picture or a tensor as an array in the order of :func:`as_picture`; anything else as it is.

    Pillow pictures are RGB. A tensor (1, 3 or 4 channels; h; w) is RGB too, as torchvision's; one whose channels come
    last is taken for the array that it holds.
    """
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        array = (item.float() if item.is_floating_point() else item).numpy()
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            array = array.transpose(1, 2, 0)
            return array if array.shape[2] == 1 else array[..., 2::-1]
        return array
    if type(item).__module__.partition('.')[0] != 'PIL':
        return item
    from PIL import Image, ImageOps

    if not isinstance(item, Image.Image):
        return item
    if item.width * item.height > pixel_limit():
        raise UserValueError(f'{name} has {item.width * item.height:,} pixels, {_more_than_allowed()}')
    try:
        item = ImageOps.exif_transpose(item)
        plain = item.mode in ('1', 'L', 'I', 'F') or item.mode.startswith('I;16')
        return np.asarray(item) if plain else np.asarray(item.convert('RGB'))[..., ::-1]
    except (OSError, SyntaxError, ValueError) as error:
        raise UserValueError(f'{name} cannot be decoded: {_first_line(error)}') from error
