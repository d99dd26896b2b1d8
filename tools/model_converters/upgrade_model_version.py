"""Bring the weights of MMDetection 1.x, and of 2.0 to 2.4, to the names and orders of classes of later versions.

python tools/model_converters/upgrade_model_version.py old.pth new.pth --num-classes 81
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('in_file', help='checkpoint to read')
    parser.add_argument('out_file', help='checkpoint to write')
    parser.add_argument('--num-classes', type=int, default=81, help='of the data set, the background included')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import tensors_of, upgrade_version, version_of

    def convert(checkpoint):
        weights = upgrade_version(tensors_of(checkpoint, 'state_dict'), args.num_classes, version_of(checkpoint))
        return dict(meta=checkpoint.get('meta', {}), state_dict=weights)

    convert_file(args.in_file, args.out_file, convert, bare=True)


if __name__ == '__main__':
    run(main)
