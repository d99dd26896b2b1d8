"""Convert a Swin Transformer of its official release, or of timm as it was then, for our SwinTransformer."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='official file')
    parser.add_argument('dst', help='file to write, such as resnet50.pth')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import tensors_of
    from mmdet.models.backbones.swin import swin_converter

    convert_file(args.src, args.dst, lambda content: swin_converter(tensors_of(content, 'state_dict', 'model')))


if __name__ == '__main__':
    run(main)
