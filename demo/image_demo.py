"""Detect objects on a picture, a folder of pictures or a URL, and draw them.

python demo/image_demo.py pictures/ configs/atss/atss_r50_fpn_1x_coco.py --weights atss.pth --out-dir outputs
"""

import argparse
import ast
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', help='picture, folder or URL')
    parser.add_argument('model', help='config file, name of a config, or a checkpoint that carries its config')
    parser.add_argument('--weights', help='checkpoint file or URL')
    parser.add_argument('--out-dir', default='outputs', help='folder for drawings (vis) and predictions (preds)')
    parser.add_argument('--texts', help="what to look for, for detectors that read; '$: coco' for the classes of COCO")
    parser.add_argument('--device', default='cuda:0', help='device; the CPU where there is no CUDA')
    parser.add_argument('--pred-score-thr', type=float, default=0.3, help='detections with higher scores are drawn')
    parser.add_argument('--class-thresholds', metavar='FILE', help='JSON file of a score threshold for each class')
    parser.add_argument('--batch-size', type=int, default=1, help='pictures that pass through the network together')
    parser.add_argument('--show', action='store_true', help='show each drawing in a window')
    parser.add_argument('--no-save-vis', action='store_true', help='write no drawings')
    parser.add_argument('--no-save-pred', action='store_true', help='write no predictions')
    parser.add_argument('--print-result', action='store_true', help='print the predictions')
    parser.add_argument('--palette', default='none', help='colours: coco, voc, citys, random, none (as trained)')
    parser.add_argument('--custom-entities', '-c', action='store_true', help='texts are names, not a sentence')
    parser.add_argument('--chunked-size', '-s', type=int, default=-1, help='classes at a time, for very many texts')
    parser.add_argument('--tokens-positive', '-p', type=ast.literal_eval, help='where the objects stand in the text')
    return parser.parse_args(argv)


def main(args):
    from mmdet.apis import DetInferencer

    model, weights = args.model, args.weights
    if weights is None and model.endswith(('.pth', '.safetensors')):
        model, weights = None, model
    inferencer = DetInferencer(model, weights, device=args.device, palette=args.palette)
    if args.chunked_size > 0:
        inferencer.model.test_cfg.chunked_size = args.chunked_size
    texts = args.texts
    if texts and texts.startswith('$:'):
        from mmdet.evaluation import get_classes

        texts = tuple(get_classes(texts[2:].strip()))
    save = not (args.no_save_vis and args.no_save_pred)
    inferencer(
        args.inputs,
        batch_size=args.batch_size,
        show=args.show,
        no_save_vis=args.no_save_vis,
        no_save_pred=args.no_save_pred,
        pred_score_thr=args.class_thresholds or args.pred_score_thr,
        print_result=args.print_result,
        out_dir=args.out_dir if save else '',
        texts=texts,
        custom_entities=args.custom_entities,
        tokens_positive=args.tokens_positive,
    )
    number = inferencer.num_predicted_imgs
    parts = ', '.join(f'{seconds / number:.3f} s {name}' for name, seconds in inferencer.seconds.items())
    print(f'{number} pictures, {sum(inferencer.seconds.values()) / number:.3f} s per picture: {parts}')
    if save:
        print(f'The results are in {args.out_dir}')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))
