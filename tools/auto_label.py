"""Label a folder of pictures by a detector: COCO JSON, ODVG with a label map, and a page of drawn results.

    python tools/auto_label.py pictures/ CONFIG --weights CHECKPOINT --out labels
    python tools/auto_label.py pictures/ CONFIG --weights CHECKPOINT --out labels --texts 'cat . traffic light .'

The second is for detectors that read. labels/index.html shows what was found; --class-thr cat=0.5 dog=0.35 says how
sure a detection must be, class by class.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.errors import UserValueError


def threshold(text):
    """``name=score``."""
    name, sign, value = text.rpartition('=')
    try:
        return name.strip(), float(value if sign else '')
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=SCORE, such as cat=0.5') from None


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='folder of pictures, searched with its subfolders')
    parser.add_argument('model', help='config file, name of a config, or a checkpoint that carries its config')
    parser.add_argument('--weights', help='checkpoint file or URL')
    parser.add_argument('--out', default='labels', help='folder to write to (labels)')
    parser.add_argument('--texts', help="what to look for, for detectors that read: 'cat . dog .'")
    parser.add_argument('--sentence', action='store_true', help='texts are a sentence, whose nouns are looked for')
    parser.add_argument('--score-thr', type=float, default=0.3, help='surer detections become labels (0.3)')
    parser.add_argument('--class-thr', type=threshold, nargs='+', metavar='NAME=SCORE', help='thresholds of classes')
    parser.add_argument('--class-thresholds', metavar='FILE', help='JSON file of thresholds by class')
    parser.add_argument('--nms-thr', type=float, default=0.5, help='of boxes that overlap more one stays (0.5)')
    parser.add_argument('--batch-size', type=int, default=1, help='pictures that pass through the network together')
    parser.add_argument('--device', help='cpu, cuda:0, ...')
    parser.add_argument('--no-page', action='store_true', help='draw nothing')
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    if args.class_thr and args.class_thresholds:
        raise UserValueError('--class-thr and --class-thresholds both say thresholds: give one of them')
    from mmdet.apis import DetInferencer
    from mmdet.apis.auto_label import label_folder

    model, weights = args.model, args.weights
    if weights is None and model.endswith(('.pth', '.safetensors')):
        model, weights = None, model
    labels = label_folder(
        DetInferencer(model, weights, device=args.device),
        args.folder,
        args.out,
        texts=args.texts,
        custom_entities=not args.sentence,
        score_thr=args.score_thr,
        class_thresholds=dict(args.class_thr) if args.class_thr else args.class_thresholds,
        nms_thr=args.nms_thr,
        batch_size=args.batch_size,
        draw=not args.no_page,
    )
    for path, reason in labels.skipped.items():
        print(f'left out: {path}: {reason}', file=sys.stderr)
    for name, count in labels.counts().most_common():
        print(f'{count:6} {name}')
    print(f'{len(labels.images)} pictures, {len(labels.annotations)} boxes in {args.out}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
