"""Show or write the pictures of an ODVG file with its boxes and texts, as they are in the file.

    python tools/analysis_tools/browse_grounding_raw.py data/objects365v1/ o365v1_train_odvg.json train \\
        --label-map-file o365v1_label_map.json --not-show -o browse
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', help='folder of the data set')
    parser.add_argument('ann_file', help='ODVG file below data_root')
    parser.add_argument('img_prefix', help='folder of the pictures below data_root')
    parser.add_argument('-m', '--label-map-file', help='label map below data_root, of files of detection')
    parser.add_argument('-o', '--output-dir', type=Path, help='folder to write the pictures to')
    parser.add_argument('--not-show', action='store_true', help='open no window')
    parser.add_argument('-n', '--show-num', type=int, default=30, help='stop after so many pictures (30)')
    parser.add_argument('-i', '--show-interval', type=float, default=0, help='seconds that a picture stays')
    parser.add_argument('-r', '--shuffle', action='store_true', help='pictures by chance')
    return parser.parse_args(argv)


def drawn(visualizer, sample):
    """The picture of a sample of ODVGDataset, RGB, with what the file says of it."""
    import torch
    from mmengine.structures import InstanceData

    from mmdet.structures import DetDataSample
    from mmdet.utils.pictures import read_picture
    from mmdet.visualization.caption import draw_grounded

    image = read_picture(sample['img_path'])[..., ::-1]
    boxes = torch.tensor([entry['bbox'] for entry in sample['instances']], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([entry['bbox_label'] for entry in sample['instances']], dtype=torch.long)
    shown = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=labels))
    if sample['dataset_mode'] == 'VG':
        spans = [phrase['tokens_positive'] for phrase in sample['phrases'].values()]
        shown.set_metainfo(dict(text=sample['text'], tokens_positive=spans))
        return draw_grounded(visualizer, image, shown)
    shown.gt_instances.label_names = [sample['text'][str(label)] for label in labels.tolist()]
    return visualizer.draw_datasample(image, shown)


def main(argv=None):
    args = parse_args(argv)
    from mmdet.visualization.window import require_place

    require_place(args.not_show, args.output_dir)
    import random

    from mmdet.datasets import ODVGDataset
    from mmdet.utils.output_names import OutputNames
    from mmdet.visualization import DetLocalVisualizer
    from mmdet.visualization.sheet import write_image

    dataset = ODVGDataset(
        data_root=args.data_root,
        ann_file=args.ann_file,
        data_prefix=dict(img=args.img_prefix),
        label_map_file=args.label_map_file,
        return_classes=True,
    )
    order = random.sample(range(len(dataset)), len(dataset)) if args.shuffle else range(len(dataset))
    visualizer, names = DetLocalVisualizer(name='browse'), OutputNames(dataset.data_prefix['img'])
    for index in order[: args.show_num]:
        sample = dataset.get_data_info(index)
        image = drawn(visualizer, sample)
        name = (
            f'{index:06}_{names(sample["img_path"])}' if sample['dataset_mode'] == 'VG' else names(sample['img_path'])
        )
        if args.output_dir is not None:
            write_image(image, args.output_dir / name)
        if not args.not_show:
            visualizer.show(image, win_name=name, wait_time=args.show_interval)
    print(f'{min(args.show_num, len(dataset))} of {len(dataset)} pictures of {args.ann_file}')


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
