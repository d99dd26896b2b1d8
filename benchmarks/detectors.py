"""Training steps and inference of this package beside torchvision or `transformers`, and the bare network.

The candidates take turns (A B C A B C ...) in one process, on the same pictures and boxes, with the same optimizer. The
bare network is our own backbone, neck and head layers: forward, the sum of the outputs as loss, backward, optimizer.
For two-stage detectors it pools and classifies the regions that the detector itself drew in its first step. What a
detector adds to it is assignment, targets, losses, proposals and sampling.

torchvision's models get our weights, so that both find about as many proposals and detections. As in training from a
pretrained backbone, the batch norms of both are frozen, and so are the stem and the first stage; the default of
torchvision without pretrained weights, where it trains them all, is ``--torchvision-trains-norms``. The models of
`transformers` give us their weights, have the losses of all decoder layers as we do, and take pictures that are
normalised and padded already; where `transformers` is missing, a line says so and the others are measured.

    python benchmarks/detectors.py                                      # RetinaNet, FCOS, Faster R-CNN at 480x640
    python benchmarks/detectors.py --models detr deformable_detr --size 320 320 --padded
    python benchmarks/detectors.py --models rtdetr_r18 dfine_s --mode infer --size 640 640 --batch 1
    python benchmarks/detectors.py --device cuda --models retinanet atss --size 800 1333 --batch 16 --dtype bfloat16

Prints medians, ratios and peak memory; ``--out FOLDER`` writes them as JSON and as a plot.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import resource
import statistics
import time
from pathlib import Path

import report
import transformers_peers

CONFIGS = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py',
    'atss': 'atss/atss_r50_fpn_1x_coco.py',
    'faster_rcnn': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mask_rcnn': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'detr': 'detr/detr_r50_8xb2-150e_coco.py',
    'deformable_detr': 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
    'rtdetr_r18': 'rtdetr/rtdetr_r18vd_4xb4-72e_coco.py',
    'rtdetr_r50': 'rtdetr/rtdetr_r50vd_4xb4-72e_coco.py',
    'rtdetrv2_r50': 'rtdetrv2/rtdetrv2_r50vd_4xb4-72e_coco.py',
    'dfine_s': 'dfine/dfine_hgnetv2-s_8xb4-124e_coco.py',
    'dfine_l': 'dfine/dfine_hgnetv2-l_8xb4-74e_coco.py',
    'lwdetr_tiny': 'lwdetr/lwdetr_tiny_8xb4-60e_coco.py',
    'rfdetr_nano': 'rfdetr/rfdetr_nano_8xb2-60e_coco.py',
}
TRANSFORMERS = tuple(name for name in CONFIGS if 'detr' in name or 'dfine' in name)
TORCHVISION = {
    'retinanet': 'retinanet_resnet50_fpn',
    'fcos': 'fcos_resnet50_fpn',
    'faster_rcnn': 'fasterrcnn_resnet50_fpn',
    'mask_rcnn': 'maskrcnn_resnet50_fpn',
}
# What the weights of the class scores are multiplied by for inference, so that some pass the threshold.
CLASS_GAIN = dict(retinanet=400, fcos=3, atss=3, faster_rcnn=40, mask_rcnn=40)
ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', default=['retinanet', 'fcos', 'faster_rcnn'], choices=list(CONFIGS))
    parser.add_argument('--mode', nargs='+', default=['train', 'infer'], choices=['train', 'infer'])
    parser.add_argument('--size', nargs=2, type=int, default=[480, 640], metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--boxes', type=int, default=20, help='ground truths of each image')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=5, help='timed turns of each candidate, after one for warm-up')
    parser.add_argument(
        '--cpu-time', action='store_true', help='of all threads in the place of wall time, where others work'
    )
    parser.add_argument('--threads', type=int, default=0, help='0: as torch chooses')
    parser.add_argument('--channels-last', action='store_true', help='keep the weights of our network channels-last')
    parser.add_argument('--no-winograd', action='store_true', help='train by direct convolutions on the CPU too')
    parser.add_argument('--torchvision-trains-norms', action='store_true', help='and the stem and the first stage')
    parser.add_argument('--optimize', choices=['fuse', 'bf16'], help='of our inference, as in tools/test.py')
    parser.add_argument('--compile', action='store_true', help='our networks, as compile=True does')
    parser.add_argument('--padded', action='store_true', help='every second picture is a quarter less high and wide')
    parser.add_argument('--out', type=Path, help='folder for detectors.json and detectors.png')
    return parser.parse_args()


def make_batch(args: argparse.Namespace, with_masks: bool):
    """Pictures in [0, 1], boxes, labels and masks as torchvision takes them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for index in range(args.batch):
        height, width = (int(size * (0.75 if args.padded and index % 2 else 1)) for size in args.size)
        images.append(torch.rand(3, height, width, generator=generator).to(args.device))
        low = torch.rand(args.boxes, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
        side = torch.rand(args.boxes, 2, generator=generator) * torch.tensor([width * 0.35, height * 0.35]) + 8
        boxes = torch.cat([low, low + side], 1)
        labels = torch.randint(0, 80, (args.boxes,), generator=generator)
        target = dict(boxes=boxes.to(args.device), labels=labels.to(args.device) + 1)
        if with_masks:
            masks = torch.zeros(args.boxes, height, width, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
                mask[y1:y2, x1:x2] = 1
            target['masks'] = masks.to(args.device)
        targets.append(target)
    return images, targets


def build_ours(name: str, args: argparse.Namespace):
    import torch
    from mmengine.config import Config
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')  # it would list every parameter that is initialised
    cfg = Config.fromfile(ROOT / 'configs' / CONFIGS[name]).model
    cfg.backbone.pop('init_cfg', None)
    cfg.data_preprocessor.pop('batch_augments', None)  # which would change the size
    if cfg.backbone.type == 'ResNet':
        cfg.backbone.style = 'pytorch'  # strides where torchvision has them
    if name == 'deformable_detr':
        cfg.neck.bias = True  # as transformers has it
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    model.cfg = cfg
    model = model.to(args.device)
    return model.to(memory_format=torch.channels_last) if args.channels_last else model


def copy_weights(ours, theirs, name: str) -> None:
    """Ours into a torchvision model, where the map for loading its checkpoints says; other levels keep their own.

    The map is run on the places of torchvision's values instead of the values: so each of ours knows where it goes.
    """
    import torch

    from mmdet.utils.key_maps import translate_state_dict

    own, target = ours.state_dict(), theirs.state_dict()
    values = torch.cat([value.double().flatten() for value in target.values()])
    sizes = [value.numel() for value in target.values()]
    places = torch.arange(len(values)).split(sizes)
    shaped = {key: place.view(value.shape) for (key, value), place in zip(target.items(), places)}
    translated = {key: place for key, place in translate_state_dict(shaped, own)[0].items() if key in own}
    translated = {key: place for key, place in translated.items() if place.shape == own[key].shape}
    assert len(translated) > 200, f'only {len(translated)} tensors of {name} have a counterpart in torchvision'
    for key, value in target.items():  # the class that only torchvision has: never found
        if key.startswith('head.classification_head.cls_logits.'):
            values[shaped[key]] = -10 if value.dim() == 1 else 0
    for key, place in translated.items():
        values[place] = own[key].double()
    copied = {key: part.view_as(target[key]).to(target[key].dtype) for key, part in zip(target, values.split(sizes))}
    theirs.load_state_dict(copied)


def freeze(body) -> None:
    """Fix the batch norms of a ResNet, its stem and its first stage."""
    from torch import nn
    from torchvision.ops import FrozenBatchNorm2d

    for parent in list(body.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, child.eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, child_name, frozen.to(child.weight.device))
    for layer in (body.conv1, body.layer1):
        layer.requires_grad_(False)


def build_theirs(name: str, ours, args: argparse.Namespace):
    import torch
    import torchvision

    torch.manual_seed(0)
    builder = getattr(torchvision.models.detection, TORCHVISION[name])
    side = min(args.size)
    extra = {} if name in ('retinanet', 'fcos') else dict(box_nms_thresh=0.5)
    theirs = builder(
        weights=None, weights_backbone=None, num_classes=81, min_size=side, max_size=max(args.size), **extra
    ).to(args.device)
    copy_weights(ours, theirs, name)
    if not args.torchvision_trains_norms:
        freeze(theirs.backbone.body)
    return theirs


def peer_of(name: str) -> str | None:
    """The library that has this detector, too, and is installed."""
    if name in TRANSFORMERS and importlib.util.find_spec('transformers') is None:
        print(f'{name}: transformers is not installed, so ours is compared with the bare network alone')
        return None
    return 'transformers' if name in TRANSFORMERS else 'torchvision' if name in TORCHVISION else None


def peer_call(name: str, ours, args: argparse.Namespace, images, targets, training: bool):
    """A call of the other library's model: its loss, or its detections."""
    if name not in TRANSFORMERS:
        theirs = build_theirs(name, ours, args).train(training)
        return theirs, (lambda: sum(theirs(images, targets).values())) if training else (lambda: theirs(images))
    theirs, inputs = transformers_peers.twin_of(ours, images, training)
    if training:
        labels = transformers_peers.labels_of(images, targets)
        return theirs, lambda: theirs(**inputs, labels=labels).loss
    sizes = [tuple(image.shape[-2:]) for image in images]
    return theirs, lambda: transformers_peers.detections(ours, theirs(**inputs), sizes)


def our_samples(images, targets, args):
    from mmengine.structures import InstanceData

    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for image, target in zip(images, targets):
        size = tuple(image.shape[-2:])
        meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        fields = dict(bboxes=target['boxes'], labels=target['labels'] - 1)
        if 'masks' in target:
            fields['masks'] = BitmapMasks(target['masks'].cpu().numpy(), *size)
        sample.gt_instances = InstanceData(**fields)
        samples.append(sample)
    return dict(inputs=[(image * 255).byte() for image in images], data_samples=samples)


def optimizer_of(model):
    import torch

    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)


def autocast(args):
    import torch

    if args.dtype == 'float32':
        return contextlib.nullcontext()
    return torch.autocast(args.device.split(':')[0], dtype=getattr(torch, args.dtype))


def network_outputs(model, inputs, rois):
    """Everything that the layers compute for a batch, as a list of tensors."""
    if hasattr(model, 'decoder'):
        return list(model._forward(inputs))
    feats = model.extract_feat(inputs)
    if not hasattr(model, 'roi_head'):
        return [level for levels in model.bbox_head(feats) for level in levels]
    outs = [level for levels in model.rpn_head(feats) for level in levels]
    found = model.roi_head._bbox_forward(feats, rois['bbox'])
    outs += [found['cls_score'], found['bbox_pred']]
    if 'mask' in rois:
        outs.append(model.roi_head._mask_forward(feats, rois['mask'])['mask_preds'])
    return outs


def drawn_rois(model, step) -> dict:
    """The regions that a two-stage detector pools in one step, by the name of the branch."""
    rois: dict = {}
    if hasattr(model, 'roi_head'):
        head, originals = model.roi_head, {}
        for branch in ('bbox', 'mask') if model.with_mask else ('bbox',):
            method = originals[branch] = getattr(head, f'_{branch}_forward')

            def recording(feats, found, *args, branch=branch, method=method, **kwargs):
                rois[branch] = found.detach().clone()
                return method(feats, found, *args, **kwargs)

            setattr(head, f'_{branch}_forward', recording)
        step()
        for branch in originals:
            delattr(head, f'_{branch}_forward')
    return rois


def training_steps(name: str, args: argparse.Namespace) -> dict:
    """Candidate -> a function that does one training step."""
    from mmdet.engine.acceleration import accelerate_training
    from mmdet.engine.compilation import compile_networks

    images, targets = make_batch(args, name == 'mask_rcnn')
    ours = build_ours(name, args).train()
    accelerate_training(ours, dict(winograd=not args.no_winograd))  # as tools/train.py does
    if args.compile:
        compile_networks(ours)
    ours_optimizer = optimizer_of(ours)
    data = our_samples(images, targets, args)

    def step(optimizer, loss_of):
        optimizer.zero_grad(set_to_none=True)
        with autocast(args):
            loss = loss_of()
        loss.backward()
        optimizer.step()

    def our_loss():
        batch = ours.data_preprocessor(data, True)
        return ours.parse_losses(
            ours.loss(**{'batch_inputs': batch['inputs'], 'batch_data_samples': batch['data_samples']})
        )[0]

    rois = drawn_rois(ours, lambda: step(ours_optimizer, our_loss))

    def bare_loss():
        inputs = ours.data_preprocessor(data, True)['inputs']
        return sum(out.float().sum() for out in network_outputs(ours, inputs, rois))

    steps = {'ours': lambda: step(ours_optimizer, our_loss), 'bare network': lambda: step(ours_optimizer, bare_loss)}
    peer = peer_of(name)
    if peer:
        theirs, their_loss = peer_call(name, ours, args, images, targets, training=True)
        theirs_optimizer = optimizer_of(theirs)
        steps[peer] = lambda: step(theirs_optimizer, their_loss)
    return steps


def inference_steps(name: str, args: argparse.Namespace) -> dict:
    """Candidate -> a function that detects in one batch."""
    import torch

    images, targets = make_batch(args, False)
    peer = peer_of(name)
    from mmdet.engine.acceleration import optimize_for_inference
    from mmdet.engine.compilation import compile_networks

    ours = build_ours(name, args).eval()
    with torch.no_grad():
        for layer_name, layer in ours.named_modules():
            if layer_name.endswith(('retina_cls', 'conv_cls', 'atss_cls', 'fc_cls')):
                layer.weight *= CLASS_GAIN.get(name, 1)
    their_detections = peer and peer_call(name, ours, args, images, targets, training=False)[1]
    ours = optimize_for_inference(ours, args.optimize)
    if args.compile:
        compile_networks(ours)
    data = our_samples(images, targets, args)

    def detect():
        with torch.inference_mode(), autocast(args):
            batch = ours.data_preprocessor(data, False)
            return ours(**batch, mode='predict')

    rois = drawn_rois(ours, detect)

    def bare():
        with torch.inference_mode(), autocast(args):
            return network_outputs(ours, ours.data_preprocessor(data, False)['inputs'], rois)

    steps = {'ours': detect, 'bare network': bare}
    if peer:

        def peer_step():
            with torch.inference_mode(), autocast(args):
                return their_detections()

        steps[peer] = peer_step
    return steps


def measure(steps: dict, args: argparse.Namespace) -> dict:
    """Median seconds and peak memory of each candidate, which take turns."""
    import torch

    cuda = args.device.startswith('cuda')
    clock = time.process_time if args.cpu_time else time.perf_counter
    times: dict = {name: [] for name in steps}
    memory: dict = {}
    for turn in range(args.rounds + 1):
        for name, step in steps.items():
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = clock()
            step()
            if cuda:
                torch.cuda.synchronize()
                memory[name] = torch.cuda.max_memory_allocated() / 2**20
            if turn:
                times[name].append(clock() - start)
    result = {name: dict(seconds=statistics.median(t), fastest=min(t)) for name, t in times.items()}
    for name in memory:
        result[name]['peak_mib'] = round(memory[name])
    for name in result:
        if name != 'ours':
            # Neighbours in time share the machine's load, so the ratio is taken turn by turn.
            result[name]['ours_to_it'] = statistics.median(a / b for a, b in zip(times['ours'], times[name]))
    return result


def plot(table: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    names = ['bare network', 'ours', 'torchvision', 'transformers']
    figure, axis = plt.subplots(figsize=(1.6 * len(table) + 3, 4))
    for i, name in enumerate(names):
        places = [k + (i - 1) * 0.27 for k, row in enumerate(table) if name in row['results']]
        values = [row['results'][name]['seconds'] for row in table if name in row['results']]
        axis.bar(places, values, 0.25, label=name)
    axis.set_xticks(range(len(table)), [f'{row["model"]}\n{row["mode"]}' for row in table])
    axis.set_ylabel('seconds (median)')
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    args = parse_args()
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    versions = report.versions()
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} CPU threads'
    print(f'{versions}, {where}, batch {args.batch} of {args.size[0]}x{args.size[1]}, {args.boxes} boxes, {args.dtype}')
    table = []
    for model in args.models:
        for mode in args.mode:
            steps = training_steps(model, args) if mode == 'train' else inference_steps(model, args)
            results = measure(steps, args)
            table.append(dict(model=model, mode=mode, results=results))
            for name, row in results.items():
                ratio = f'   ours / {name} = {row["ours_to_it"]:.3f}' if 'ours_to_it' in row else ''
                peak = f'   peak {row["peak_mib"]} MiB' if 'peak_mib' in row else ''
                print(f'{model:12s} {mode:5s} {name:13s} {row["seconds"] * 1000:9.1f} ms{peak}{ratio}', flush=True)
            del steps
    print(f'peak resident memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB')
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        content = dict(versions=versions, device=where, options=options, table=table)
        (args.out / 'detectors.json').write_text(json.dumps(content, indent=1))
        plot(table, args.out / 'detectors.png')


if __name__ == '__main__':
    main()
