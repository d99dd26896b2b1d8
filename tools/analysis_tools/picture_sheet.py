"""Put the pictures of a folder, such as tools/test.py --show-dir leaves, on one sheet."""

import argparse
from pathlib import Path

import cv2
import numpy as np

SUFFIXES = {'.jpg', '.jpeg', '.png'}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='folder with pictures, searched with its subfolders')
    parser.add_argument('out', type=Path, help='the sheet, .jpg or .png')
    parser.add_argument('--columns', type=int, default=3)
    parser.add_argument('--limit', type=int, default=12, help='how many pictures, evenly spread over the folder')
    parser.add_argument('--width', type=int, default=480, help='width in pixels of each picture on the sheet')
    parser.add_argument('--quality', type=int, default=85, help='JPEG quality')
    return parser.parse_args()


def find_pictures(folder: Path, limit: int) -> list[Path]:
    """Up to ``limit`` pictures, evenly spread over those in ``folder`` in the order of their names."""
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f'{folder} holds no picture ({", ".join(sorted(SUFFIXES))})')
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    return [paths[index] for index in chosen]


def make_sheet(pictures: list[np.ndarray], columns: int, width: int, gap: int = 6) -> np.ndarray:
    """Pictures (H, W, 3) scaled to ``width``, row by row on white; a row is as high as its highest picture."""
    scaled = [
        cv2.resize(picture, (width, round(picture.shape[0] * width / picture.shape[1])), interpolation=cv2.INTER_AREA)
        for picture in pictures
    ]
    rows = []
    for start in range(0, len(scaled), columns):
        row = scaled[start : start + columns]
        strip = np.full((max(len(x) for x in row) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
        for column, picture in enumerate(row):
            left = gap + column * (width + gap)
            strip[gap : gap + len(picture), left : left + width] = picture
        rows.append(strip)
    rows.append(np.full_like(rows[-1][:gap], 255))
    return np.concatenate(rows)


def main():
    args = parse_args()
    pictures = []
    for path in find_pictures(args.folder, args.limit):
        picture = cv2.imread(str(path))
        if picture is None:
            raise ValueError(f'{path} cannot be read as a picture')
        pictures.append(picture)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet = make_sheet(pictures, min(args.columns, len(pictures)), args.width)
    options = [] if args.out.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, args.quality]
    if not cv2.imwrite(str(args.out), sheet, options):
        raise ValueError(f'{args.out} cannot be written: is it a .jpg or .png?')
    print(f'{len(pictures)} pictures on {args.out} ({sheet.shape[1]} x {sheet.shape[0]})')


if __name__ == '__main__':
    main()
