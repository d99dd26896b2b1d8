"""Detect objects in a video and draw them.

python demo/video_demo.py video.mp4 configs/atss/atss_r50_fpn_1x_coco.py atss.pth --out drawn.mp4
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.errors import UserFileError, UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', help='video file')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--device', default='cuda:0', help='device; the CPU where there is no CUDA')
    parser.add_argument('--score-thr', type=float, default=0.3, help='detections with higher scores are drawn')
    parser.add_argument('--class-thresholds', metavar='FILE', help='JSON file of a score threshold for each class')
    parser.add_argument('--out', help='video file to write')
    parser.add_argument('--show', action='store_true', help='show the frames in a window; Esc or q ends')
    parser.add_argument('--wait-time', type=float, default=1, help='milliseconds to show each frame')
    args = parser.parse_args(argv)
    if not (args.out or args.show):
        parser.error('there is nothing to do: give --out FILE, --show or both')
    return args


def main(args):
    import cv2
    from rich.progress import track

    from mmdet.apis import inference_detector, init_detector
    from mmdet.apis.inference import build_inference_pipeline, build_visualizer
    from mmdet.utils import resolve_score_thresholds
    from mmdet.visualization.window import require_display

    if args.show:
        require_display('--out FILE writes the drawn video', by='cv2')
    if not os.path.isfile(args.video):
        raise UserFileError(f'video {args.video!r} does not exist')
    capture = cv2.VideoCapture(args.video)
    ok, frame = capture.read()
    if not ok:
        raise UserValueError(f'{args.video!r} cannot be read as a video')
    model = init_detector(args.config, args.checkpoint, device=args.device)
    pipeline = build_inference_pipeline(model.cfg)
    thresholds = resolve_score_thresholds(args.class_thresholds or args.score_thr, model.dataset_meta.get('classes'))
    visualizer = build_visualizer(model.cfg, model.dataset_meta)

    writer = None
    if args.out:
        os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
        height, width = frame.shape[:2]
        code = 'MJPG' if args.out.lower().endswith('.avi') else 'mp4v'
        rate = capture.get(cv2.CAP_PROP_FPS) or 25
        writer = cv2.VideoWriter(args.out, cv2.VideoWriter_fourcc(*code), rate, (width, height))
        if not writer.isOpened():
            raise UserValueError(f'{args.out!r} cannot be written as a video; use a name that ends with .mp4 or .avi')

    def frames():
        image = frame
        while image is not None:
            yield image
            image = capture.read()[1]

    number, started = 0, time.perf_counter()
    for image in track(frames(), total=max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 1), description='Frames'):
        result = inference_detector(model, image, test_pipeline=pipeline)
        visualizer.add_datasample(
            'video', image[..., ::-1], result, draw_gt=False, show=False, pred_score_thr=thresholds
        )
        drawn = visualizer.get_image()[..., ::-1]
        number += 1
        if writer is not None:
            writer.write(drawn.copy())
        if args.show:
            cv2.imshow('video', drawn)
            if cv2.waitKey(max(int(args.wait_time), 1)) in (27, ord('q')):
                break
    capture.release()
    if writer is not None:
        writer.release()
        print(f'The drawn video is {args.out}')
    print(f'{number} frames, {(time.perf_counter() - started) / number:.3f} s per frame')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
