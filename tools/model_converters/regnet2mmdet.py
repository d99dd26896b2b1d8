"""Convert a RegNetX of pycls for our RegNet."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file of pycls, .pyth')
    parser.add_argument('dst', help='file to write, such as resnet50.pth')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import from_pycls, tensors_of

    convert_file(args.src, args.dst, lambda content: from_pycls(tensors_of(content, 'model_state')))


if __name__ == '__main__':
    run(main)
