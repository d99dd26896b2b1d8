"""Convert a ResNet that MoCo or SwAV has trained without labels for our ResNet."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file of MoCo or SwAV')
    parser.add_argument('dst', help='file to write, such as resnet50.pth')
    parser.add_argument('--selfsup', choices=['moco', 'swav'], required=True, help='how it was trained')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import from_self_supervision, tensors_of

    convert = lambda content: from_self_supervision(tensors_of(content, 'state_dict'), args.selfsup)
    convert_file(args.src, args.dst, convert)


if __name__ == '__main__':
    run(main)
