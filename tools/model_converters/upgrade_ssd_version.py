"""Bring the weights of an SSD of MMDetection before 2.14 to the names of later versions."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('in_file', help='checkpoint to read')
    parser.add_argument('out_file', help='checkpoint to write')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import tensors_of, upgrade_ssd

    def convert(checkpoint):
        return dict(meta=checkpoint.get('meta', {}), state_dict=upgrade_ssd(tensors_of(checkpoint, 'state_dict')))

    convert_file(args.in_file, args.out_file, convert, bare=True)


if __name__ == '__main__':
    run(main)
