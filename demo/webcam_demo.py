"""Detect objects in what a camera sees, live. Esc, q or Q ends.

python demo/webcam_demo.py configs/atss/atss_r50_fpn_1x_coco.py atss.pth
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.errors import UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--device', default='cuda:0', help='device; the CPU where there is no CUDA')
    parser.add_argument('--camera-id', type=int, default=0, help='number of the camera')
    parser.add_argument('--score-thr', type=float, default=0.5, help='detections with higher scores are drawn')
    parser.add_argument('--class-thresholds', metavar='FILE', help='JSON file of a score threshold for each class')
    return parser.parse_args(argv)


def main(args):
    import cv2

    from mmdet.apis import inference_detector, init_detector
    from mmdet.apis.inference import build_inference_pipeline, build_visualizer
    from mmdet.utils import resolve_score_thresholds
    from mmdet.visualization.window import require_display

    camera = cv2.VideoCapture(args.camera_id)
    if not camera.isOpened():
        raise UserValueError(f'camera {args.camera_id} cannot be opened; --camera-id N chooses another')
    require_display('demo/video_demo.py --out FILE writes a video', by='cv2')
    model = init_detector(args.config, args.checkpoint, device=args.device)
    pipeline = build_inference_pipeline(model.cfg)
    thresholds = resolve_score_thresholds(args.class_thresholds or args.score_thr, model.dataset_meta.get('classes'))
    visualizer = build_visualizer(model.cfg, model.dataset_meta)

    number, started = 0, time.perf_counter()
    print('Press Esc, q or Q to end')
    while True:
        ok, image = camera.read()
        if not ok:
            break
        result = inference_detector(model, image, test_pipeline=pipeline)
        visualizer.add_datasample(
            'result', image[..., ::-1], result, draw_gt=False, show=False, pred_score_thr=thresholds
        )
        cv2.imshow('result', visualizer.get_image()[..., ::-1])
        number += 1
        if cv2.waitKey(1) in (27, ord('q'), ord('Q')):
            break
    camera.release()
    cv2.destroyAllWindows()
    print(f'{number} frames, {(time.perf_counter() - started) / max(number, 1):.3f} s per frame')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
