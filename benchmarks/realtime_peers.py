"""The real-time detectors of `transformers` that have the network of a config, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LAYERS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


def backbone_of(cfg: dict) -> Any:
    """The config of theirs for a backbone of ours."""
    import transformers

    kind, stages = cfg['type'], [f'stage{i + 1}' for i in cfg['out_indices']]
    if kind == 'PResNet':
        basic = cfg['depth'] < 50
        base = cfg.get('base_channels', 64)
        return transformers.RTDetrResNetConfig(
            embedding_size=cfg.get('stem_channels', 64),
            hidden_sizes=[base * 2**i * (1 if basic else 4) for i in range(4)],
            depths=LAYERS[cfg['depth']],
            layer_type='basic' if basic else 'bottleneck',
            out_features=stages,
        )
    if kind == 'HGNetV2':
        from mmdet.models.backbones.hgnetv2 import ARCHITECTURES

        (stem, width), *parts = ARCHITECTURES[cfg['arch']]
        mid, out, blocks, kernels, layers = zip(*parts)
        return transformers.HGNetV2Config(
            stem_channels=[3, stem, width],
            embedding_size=width,
            hidden_sizes=list(out),
            stage_in_channels=[width, *out[:-1]],
            stage_mid_channels=list(mid),
            stage_out_channels=list(out),
            stage_num_blocks=list(blocks),
            stage_kernel_size=list(kernels),
            stage_numb_of_layers=list(layers),
            use_learnable_affine_block=cfg.get('use_lab', False),
            out_features=stages,
        )
    shared = dict(
        hidden_size=cfg['embed_dims'],
        num_hidden_layers=cfg['depth'],
        num_attention_heads=cfg['num_heads'],
        patch_size=cfg['patch_size'],
        drop_path_rate=0.0,
    )
    if kind == 'DINOv2':
        return dict(
            **shared,
            model_type='rf_detr_dinov2',
            image_size=cfg['pretrain_size'],
            out_features=stages,
            num_windows=cfg['num_windows'],
            use_mask_token=False,
        )
    shared.pop('drop_path_rate')
    return dict(
        **shared,
        model_type='lw_detr_vit',
        image_size=1024,
        pretrain_image_size=cfg['pretrain_size'],
        window_block_indices=list(cfg['window_blocks']),
        num_windows=cfg['num_windows'] ** 2,
        out_features=stages,
    )


def peer_of(cfg: dict, **settings: Any) -> Any:
    """The detector of `transformers` for the ``model`` of a config.

    Args:
        settings: Arguments of its config that take the place of what follows from ``cfg``.
    """
    import transformers

    layer = cfg['decoder']['layer_cfg']
    options: dict[str, Any] = dict(
        backbone_config=backbone_of(cfg['backbone']),
        num_labels=cfg['bbox_head']['num_classes'],
        num_queries=cfg['num_queries'],
        d_model=layer['self_attn_cfg']['embed_dims'],
        decoder_layers=cfg['decoder']['num_layers'],
        decoder_ffn_dim=layer['ffn_cfg']['feedforward_channels'],
        decoder_n_points=layer['cross_attn_cfg']['num_points'],
    )
    neck = cfg['neck']
    if cfg['type'] in ('LWDETR', 'RFDETRSeg'):
        options.update(
            group_detr=cfg['num_groups'],
            decoder_self_attention_heads=layer['self_attn_cfg']['num_heads'],
            decoder_cross_attention_heads=layer['cross_attn_cfg']['num_heads'],
            dropout=0.0,
        )
        if cfg['type'] == 'RFDETRSeg':
            options.update(intermediate_size=4 * options['d_model'])
            return transformers.RfDetrForInstanceSegmentation(transformers.RfDetrConfig(**{**options, **settings}))
        if cfg['backbone']['type'] == 'DINOv2':
            return transformers.RfDetrForObjectDetection(transformers.RfDetrConfig(**{**options, **settings}))
        options.update(projector_scale_factors=list(neck['scales']))
        return transformers.LwDetrForObjectDetection(transformers.LwDetrConfig(**{**options, **settings}))
    cells = neck['encoder']['layer_cfg']
    out = neck.get('decoder_channels') or neck['out_channels']
    levels = len(neck['in_channels'])
    options.update(
        encoder_in_channels=list(neck['in_channels']),
        encoder_hidden_dim=neck['out_channels'],
        encoder_ffn_dim=cells['ffn_cfg']['feedforward_channels'],
        encoder_attention_heads=cells['self_attn_cfg']['num_heads'],
        encode_proj_layers=list(neck['encode_levels']),
        hidden_expansion=neck['expand_ratio'],
        decoder_in_channels=[neck['out_channels']] * levels,
        decoder_attention_heads=layer['self_attn_cfg']['num_heads'],
        num_feature_levels=levels,
        feat_strides=[8 * 2**i for i in range(3)][-levels:],
        freeze_backbone_batch_norms=False,
    )
    assert out == options['d_model'], 'decoder_channels must be those of the decoder'
    options.update(settings)
    if cfg['type'] == 'DFINE':
        head = cfg['bbox_head']
        options.update(depth_mult=neck.get('num_blocks', 3) / 3)
        options.update(reg_scale=head['reg_scale'], max_num_bins=head['reg_max'])
        return transformers.DFineForObjectDetection(transformers.DFineConfig(**options))
    method = layer['cross_attn_cfg'].get('method')
    if method or 'offset_scale' in layer['cross_attn_cfg']:
        config = transformers.RTDetrV2Config(**options, decoder_method=method or 'default')
        return transformers.RTDetrV2ForObjectDetection(config)
    return transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**options))


def twin_of(ours: Any, images: Sequence[Tensor], training: bool) -> tuple[Any, dict]:
    """A model of `transformers` with the network and the weights of ours, frozen where ours is, and what it takes of
    pictures in [0, 1] of one size."""
    from mmdet.engine.weights import load_weights

    cfg = ours.cfg
    settings: dict[str, Any] = dict(auxiliary_loss=training)
    if cfg['type'] != 'LWDETR':
        settings.update(freeze_backbone_batch_norms=not cfg['backbone'].get('norm_cfg', {}).get('requires_grad', True))
    theirs = peer_of(cfg, **settings).to(images[0].device)
    report = load_weights(ours, theirs.state_dict())
    known = [name for name in report.missing if 'label_embedding' not in name]
    assert not (known or report.unexpected or report.wrong_shape), report
    if cfg['backbone'].get('frozen_stages', -1) >= 0:
        for name, parameter in theirs.model.backbone.named_parameters():
            parameter.requires_grad_('embedder' not in name)
    norm = ours.data_preprocessor
    pixels = ((torch.stack(list(images)) * 255).byte().flip(1) - norm.mean) / norm.std  # red, green and blue
    return theirs.train(training), dict(pixel_values=pixels)
