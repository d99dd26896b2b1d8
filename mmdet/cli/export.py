"""Write a detector as a file for another runtime, run the file, and compare its detections with the detector's.

mmdet export my_config.py work_dirs/mine/epoch_12.pth --format onnx --dynamic-batch
mmdet export my_config.py work_dirs/mine/epoch_12.pth --format onnx --precision int8 --pictures my_pictures
mmdet export my_config.py work_dirs/mine/epoch_12.pth --format openvino --eval

The exit code is 1 where the file finds something else; the message names the layers between which they part.
"""

from __future__ import annotations

import argparse

from mmdet.apis.arguments import add_export_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of ``tools/deployment/export.py``."""
    add_export_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Export."""
    from mmdet.apis.exporting import Options, export_detector

    export_detector(
        args.config,
        args.checkpoint,
        Options(
            format=args.format,
            precision=args.precision,
            out=args.out,
            size=args.size,
            batch=args.batch,
            dynamic_batch=args.dynamic_batch,
            dynamic_size=args.dynamic_size,
            preprocess=not args.no_preprocess,
            nms=not args.no_nms,
            max_detections=args.max_detections,
            pictures=args.pictures,
            check_pictures=args.check_pictures,
            tolerances=args.tolerances and tuple(args.tolerances),
            evaluate=args.eval,
            device=args.device,
            cfg_options=args.cfg_options or {},
        ),
    )
