"""Small detectors of each family, with outputs that differ from place to place, and what torch finds with them."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'configs'))
from config_files import FAMILIES_WITH_MODELS, resolve
from one_step import build, side_of, with_language_model
from test_one_step import smallest

from mmdet.export.form import Exportable
from mmdet.export.metadata import Metadata
from mmdet.ops.fixed_size import FixedSize
from mmdet.structures import DetDataSample

__all__ = ['FAMILIES_WITH_MODELS', 'detector', 'pictures', 'predicted', 'sizes', 'smallest']

# Parts of names of layers whose outputs are classes, boxes and the like
PREDICTORS = ('cls', 'score', 'fc_', 'reg', 'obj', 'pred', 'heat', 'logits', 'bbox_embed')
RARE = 9.0
LARGEST = 4.0  # logit
EASY = dict(object_mask_thr=0.05, iou_thr=0.1, stuff_area_limit=16)  # of segments
# family -> multiple of sides, sizes to trace and to run, where the usual ones are too small or do not fit
SIZES = {
    'legacy_1.x': (1, (300, 300), ()),
    'pascal_voc': (1, (300, 300), ()),
    'pisa': (1, (300, 300), ()),
    'wider_face': (1, (300, 300), ()),
    'reppoints': (32, (384, 320), ((320, 384), (512, 288))),
    'ssd': (1, (320, 320), ()),
    'rfdetr': (96, (288, 384), ((384, 288), (192, 192))),
}
USUAL = (32, (256, 320), ((320, 256), (192, 224)))


def sizes(family):
    """A multiple of sides, a size to trace, and sizes to run; none of the latter for a detector of one size."""
    return SIZES.get(family, USUAL)


def detector(family, bert=None):
    """The smallest one of a family, with predictors whose outputs have a spread of scores.

    Args:
        bert: Folder of a language model for one that reads.
    """
    cfg = resolve(smallest(family))['model']
    model = build(with_language_model(cfg, bert) if bert else cfg).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for layer, value in model.named_parameters():
            if not any(part in layer for part in PREDICTORS):
                continue
            if value.dim() > 1:
                scale = 1 if any(part in layer for part in ('reg', 'bbox')) else 3
                value.copy_(torch.randn_like(value) * scale / value[0].numel() ** 0.5)
            elif layer.endswith('bias'):
                value.copy_(torch.randn_like(value))
                if 'rtm_reg' in layer:  # distances, of which a box has none below 0
                    value.abs_()
    if cfg['type'] in ('RPN', 'YOLOX', 'PointRend'):
        calm(model)
    for layer in model.modules():
        if hasattr(layer, 'weight_gamma'):  # standardised weights, behind which untrained norms let features explode
            layer.weight_gamma.fill_(layer.weight[0].numel() ** -0.5)
    if hasattr(getattr(model, 'mask_head', None), 'num_grids'):  # few cells of grids that are sure, as after training
        with torch.no_grad():
            model.mask_head.conv_cls.bias.sub_(RARE)
        model.mask_head.test_cfg.nms_pre = 1500
    for head in (getattr(model, 'roi_head', None), getattr(model, 'bbox_head', None)):
        if getattr(head, 'test_cfg', None) and head.test_cfg.get('score_thr'):
            head.test_cfg.score_thr = min(head.test_cfg.score_thr, 0.02)
    if 'distance_threshold' in (getattr(getattr(model, 'bbox_head', None), 'test_cfg', None) or {}):
        corners = model.bbox_head
        corners.test_cfg.distance_threshold = 100.0  # any two corners may be of one object
        corners.br_heat.load_state_dict(corners.tl_heat.state_dict())  # whose classes agree
        for layer, value in corners.named_parameters():
            if 'centripetal_shift' in layer:  # logarithms of distances in cells
                value.data.mul_(0.1)
    if hasattr(model, 'panoptic_fusion_head'):
        model.panoptic_fusion_head.test_cfg.update(EASY)
    return model


def calm(model):
    """Scale the predictors of a detector whose best scores would all be 1."""
    largest = {}

    def look(layer, inputs, output):
        largest[layer] = max(largest.get(layer, 0.0), output.abs().max().item())

    layers = [layer for name, layer in model.named_modules() if name.endswith('_cls') or 'multi_level_conv' in name]
    layers = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    predicted(model, form_of(model), pictures(1, USUAL[1]))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for layer, value in largest.items():
            layer.weight.mul_(LARGEST / value)
            layer.bias.mul_(LARGEST / value)


def squeeze(model):
    """The same with two blocks in each stage of a ResNet or one of its kin, which are traced in less time."""
    backbone = getattr(model, 'backbone', None)
    for name in getattr(backbone, 'res_layers', ()):
        stage = getattr(backbone, name)
        if isinstance(stage, torch.nn.Sequential):
            del stage[2:]
    return model


def pictures(images, size, seed=0):
    """Raw pixels ``(images, 3, H, W)``."""
    return torch.rand(images, 3, *size, generator=torch.Generator().manual_seed(seed)) * 255


def form_of(model, **options):
    return Exportable(model, options=FixedSize(**options))


def metadata(form):
    return Metadata('test', 'onnx', outputs=form.outputs, masks=form.masks, dynamic_batch=True, dynamic_size=True)


def predicted(model, form, images):
    """What the detector itself finds."""
    names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    size = tuple(images.shape[-2:])
    meta = dict(dict.fromkeys(names, size), scale_factor=(1.0, 1.0))
    samples = [DetDataSample(metainfo=dict(meta, img_id=i)) for i in range(len(images))]
    with torch.no_grad():
        return model(form.normalise(images), samples, mode='predict')


def side_too_small(family):
    return side_of(resolve(smallest(family))['model']) > 256
