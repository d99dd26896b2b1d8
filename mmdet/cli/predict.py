"""Detect on pictures, folders, patterns, addresses, videos, streams (rtsp://...) and cameras (0).

  mmdet predict pictures/ --model rtmdet-tiny --out outputs
  mmdet predict large.tif --model work_dirs/mine --slice 640
  mmdet predict pictures/ --model mine.pth --save-as cvat --out corrected

What cannot be read is listed at the end. Written are drawings and predictions.json, one line of JSON for each picture.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmdet.apis.arguments import add_texts_argument, parse_size, texts_of

if TYPE_CHECKING:
    from pathlib import Path

    from mmdet.datasets.raw import RawPicture
    from mmdet.utils.output_names import OutputNames

FORMATS = ('coco', 'yolo', 'cvat', 'label-studio', 'labelme')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source, detector, output."""
    parser.add_argument('source', nargs='+', help='file, folder, pattern, address, video, stream, number of a camera')
    parser.add_argument(
        '--model',
        default='rtmdet-tiny',
        help='name, config, checkpoint with its config, or folder of a training (default: rtmdet-tiny)',
    )
    parser.add_argument('--weights', metavar='FILE', help='checkpoint, URL or hf://owner/repo')
    parser.add_argument('--scratch', action='store_true', help='random weights, to try the way')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the best one that there is)')
    parser.add_argument('--threshold', type=float, default=0.3, help='lowest score of what is reported (0.3)')
    parser.add_argument('--batch', type=int, default=1, help='pictures that pass through the network together')
    parser.add_argument('--slice', metavar='WxH', help='cut large pictures into tiles of this size')
    parser.add_argument('--overlap', type=float, default=0.25, help='of neighbouring tiles, in parts of their sides')
    add_texts_argument(parser)
    parser.add_argument('--out', default='outputs', metavar='FOLDER', help='folder to write to (outputs)')
    parser.add_argument('--no-pictures', action='store_true', help='write no drawings')
    parser.add_argument('--save-as', choices=FORMATS, help='write the predictions as annotations of this format too')


def run(args: argparse.Namespace) -> int:
    """Predict; the exit code is 1 where nothing at all could be read."""
    import sys
    from pathlib import Path

    from mmdet.apis import Detector, write_predictions
    from mmdet.errors import UserFileError
    from mmdet.utils.output_names import OutputNames, on_one_line

    tiles = parse_size(args.slice)
    out = Path(args.out)
    annotations = out / args.save_as if args.save_as else None
    if annotations is not None and annotations.is_dir() and any(annotations.iterdir()):
        raise UserFileError(f'{str(annotations)!r} is not empty; choose another --out')
    detector = Detector(args.model, args.weights, pretrained=not args.scratch, device=args.device)
    out.mkdir(parents=True, exist_ok=True)
    names = OutputNames(by_stem=True)
    count, kept = 0, []
    with (out / 'predictions.json').open('w', encoding='utf-8') as file:
        texts = texts_of(args)
        found = detector.predict(args.source, args.threshold, args.batch, tiles, args.overlap, True, texts)
        for result in found:
            count += 1
            print(result)
            file.write(result.to_json() + '\n')
            if annotations is not None:
                kept.append(_to_annotate(result, out, names))
            if not args.no_pictures:
                result.save(out / 'pictures' / names(_place_of(result)))
    if annotations is not None and kept:
        classes = dict.fromkeys(box.category for raw in kept for box in raw.boxes) if texts else detector.classes
        for line in write_predictions(kept, list(classes), annotations, args.save_as):
            print(f'lost: {line}')
        print(f'as {args.save_as}: {annotations}')
    print(f'{count} pictures, predictions in {out / "predictions.json"}')
    for name, reason in detector.skipped:
        print(f'skipped: {on_one_line(name)}: {on_one_line(reason)}', file=sys.stderr)
    return int(count == 0)


def _to_annotate(result, out: Path, names: OutputNames) -> RawPicture:
    """What was found, with a file for each frame of a video, since a tool for annotations shows pictures."""
    raw = result.to_raw()
    if result.frame is not None:
        from mmdet.visualization.sheet import write_image

        raw.name = names(_place_of(result))
        raw.path = str(out / 'frames' / raw.name)
        write_image(result.content[..., ::-1], raw.path)
    return raw


def _place_of(result) -> str:
    """What tells a drawing from all others: the path of the picture, or that of its video with the frame."""
    if result.path is None:
        return f'{result.name}.jpg'
    return result.path if result.frame is None else f'{result.path}_{result.frame:06}.jpg'
