"""Convert weights of Detectron2: by default for Detectron2Wrapper, with --config for a detector of this package.

python tools/model_converters/detectron2_to_mmdet.py model_final.pkl d2.pth
python tools/model_converters/detectron2_to_mmdet.py model_final.pkl ours.pth --config CONFIG
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def translate(weights, config):
    """The weights that the detector of a config has, under its names."""
    from mmdet.apis import init_detector
    from mmdet.engine.weights import load_weights

    detector = init_detector(config, None, device='cpu')
    print(load_weights(detector, dict(state_dict=weights), source='the file'))
    return detector.state_dict()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help='file of Detectron2, .pkl or .pth')
    parser.add_argument('dst', help='file to write, such as d2.pth')
    parser.add_argument('--prefix', default='d2_model', help='put before each name, as Detectron2Wrapper has it')
    parser.add_argument(
        '--config', help='take the names and orders of the detector of this config in place of a prefix'
    )
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import tensors_of

    def convert(content):
        weights = tensors_of(content, 'model')
        if args.config is None:
            return {f'{args.prefix}.{name}': value for name, value in weights.items()}
        return translate(weights, args.config)

    convert_file(args.src, args.dst, convert)


if __name__ == '__main__':
    run(main)
