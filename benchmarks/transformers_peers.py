"""The models of `transformers` that have the network of a config: as large, for as many classes, with random weights.

Where both could differ, ``peer_of`` sets what the config says: costs of the matching, weights of the losses, the weight
of no object, the temperature of the positions, dropout of outputs and of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

KINDS = {
    'DETR': 'Detr',
    'ConditionalDETR': 'ConditionalDetr',
    'DABDETR': 'DabDetr',
    'DeformableDETR': 'DeformableDetr',
}
DEPTHS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def resnet_of(backbone: dict) -> Any:
    """The config of `transformers`' own ResNet for a config of ours."""
    from transformers import ResNetConfig

    depth, base = backbone['depth'], backbone.get('base_channels', 64)
    basic = depth < 50
    return ResNetConfig(
        embedding_size=backbone.get('stem_channels') or base,
        hidden_sizes=[base * 2**i * (1 if basic else 4) for i in range(4)],
        depths=DEPTHS[depth],
        layer_type='basic' if basic else 'bottleneck',
        out_features=[f'stage{i + 1}' for i in backbone['out_indices']],
    )


def peer_of(cfg: dict, **settings: Any) -> Any:
    """The detector of `transformers` for the ``model`` of a config.

    Args:
        settings: Arguments of its config that take the place of what follows from ``cfg``.
    """
    import transformers

    head, attention = cfg['bbox_head'], cfg['encoder']['layer_cfg']['self_attn_cfg']
    costs = [int(cost['weight']) for cost in cfg['train_cfg']['assigner']['match_costs']]
    dropout = cfg['encoder']['layer_cfg']['ffn_cfg'].get('ffn_drop', 0.0)
    width = {'DABDETR': 'hidden_size'}.get(cfg['type'], 'd_model')
    options: dict[str, Any] = dict(
        backbone_config=resnet_of(cfg['backbone']),
        num_labels=head['num_classes'],
        num_queries=cfg['num_queries'],
        dropout=dropout,
        activation_dropout=dropout,
        attention_dropout=cfg['decoder']['layer_cfg']['self_attn_cfg'].get('dropout', 0.0),
        **{width: attention['embed_dims']},
        **dict(zip(('class_cost', 'bbox_cost', 'giou_cost'), costs)),
        bbox_loss_coefficient=int(head['loss_bbox']['loss_weight']),
        giou_loss_coefficient=int(head['loss_iou']['loss_weight']),
    )
    for coder in ('encoder', 'decoder'):
        layer = cfg[coder]['layer_cfg']
        options[f'{coder}_layers'] = cfg[coder]['num_layers']
        options[f'{coder}_ffn_dim'] = layer['ffn_cfg']['feedforward_channels']
        options[f'{coder}_attention_heads'] = layer['self_attn_cfg'].get('num_heads', 8)
    if cfg['type'] == 'DETR':
        options.update(eos_coefficient=head['loss_cls']['bg_cls_weight'])
    if cfg['type'] == 'DABDETR':
        temperature = cfg['positional_encoding']['temperature']
        options.update(temperature_height=temperature, temperature_width=temperature)
    if cfg['type'] == 'DeformableDETR':
        options.update(
            num_feature_levels=cfg['num_feature_levels'],
            with_box_refine=cfg['with_box_refine'],
            two_stage=cfg['as_two_stage'],
            two_stage_num_proposals=cfg['num_queries'],
        )
    kind = KINDS[cfg['type']]
    config = getattr(transformers, f'{kind}Config')(**{**options, **settings})
    return getattr(transformers, f'{kind}ForObjectDetection')(config)


def twin_of(ours: Any, images: Sequence[Tensor], training: bool) -> tuple[Any, dict]:
    """A model of `transformers` with the network and the weights of ours, and what it takes of pictures.

    Its own ResNet has all stages frozen by default; here those that ours trains are trained.
    """
    from mmdet.engine.weights import load_weights

    if ours.cfg['type'] not in KINDS:
        import realtime_peers

        return realtime_peers.twin_of(ours, images, training)
    theirs = peer_of(ours.cfg, auxiliary_loss=training).to(images[0].device)
    report = load_weights(ours, theirs.state_dict())
    assert not (report.missing or report.unexpected or report.wrong_shape), report
    for name, parameter in theirs.model.backbone.named_parameters():
        parameter.requires_grad_('embedder' not in name and 'stages.0.' not in name)
    size = [max(image.shape[axis] for image in images) for axis in (-2, -1)]
    pixels, inside = images[0].new_zeros(len(images), 3, *size), images[0].new_zeros(len(images), *size)
    for index, image in enumerate(images):
        pixels[index, :, : image.shape[1], : image.shape[2]] = (image - 0.45) / 0.225
        inside[index, : image.shape[1], : image.shape[2]] = 1
    return theirs.train(training), dict(pixel_values=pixels, pixel_mask=inside)


def labels_of(images: Sequence[Tensor], targets: Sequence[dict]) -> list[dict]:
    """Ground truths as `transformers` takes them, of ``boxes (G, 4)`` in pixels and ``labels (G,)`` from 1."""
    labels = []
    for image, target in zip(images, targets):
        low, high = (target['boxes'] / target['boxes'].new_tensor([*image.shape[:0:-1]] * 2)).chunk(2, 1)
        boxes = torch.cat([(low + high) / 2, high - low], 1)
        labels.append(dict(class_labels=target['labels'] - 1, boxes=boxes))
    return labels


def detections(ours: Any, outputs: Any, sizes: Sequence[tuple[int, int]]) -> list[dict]:
    """What `transformers` makes of the outputs of its models."""
    import transformers

    kind = KINDS.get(type(ours).__name__, 'RTDetr')  # whose scores are sigmoids
    processor = getattr(transformers, f'{kind}ImageProcessor')()
    return processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=list(sizes))
