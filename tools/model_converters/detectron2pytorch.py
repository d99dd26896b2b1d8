"""Convert a ResNet of Detectron (Caffe2), such as its weights from ImageNet, for our ResNet."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import convert_file, run


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file of Detectron, .pkl')
    parser.add_argument('dst', help='file to write, such as resnet50.pth')
    parser.add_argument('depth', type=int, choices=[50, 101], help='of the ResNet')
    args = parser.parse_args(argv)
    from mmdet.apis.old_weights import from_detectron, tensors_of

    convert_file(args.src, args.dst, lambda content: from_detectron(tensors_of(content, 'blobs'), args.depth))


if __name__ == '__main__':
    run(main)
