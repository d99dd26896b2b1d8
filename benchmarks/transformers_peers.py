"""The models of `transformers` that have the network of a config: as large, for as many classes, with random weights.

Where both could differ, ``peer_of`` sets what the config says: costs of the matching, weights of the losses, the weight
of no object, the temperature of the positions.
"""

from __future__ import annotations

from typing import Any

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
    width = {'DABDETR': 'hidden_size'}.get(cfg['type'], 'd_model')
    options: dict[str, Any] = dict(
        backbone_config=resnet_of(cfg['backbone']),
        num_labels=head['num_classes'],
        num_queries=cfg['num_queries'],
        dropout=cfg['encoder']['layer_cfg']['ffn_cfg'].get('ffn_drop', 0.0),
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
