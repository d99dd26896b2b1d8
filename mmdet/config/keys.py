"""The keys of dicts in a config that have no class whose signature would list them, by the key that holds the dict."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

_PROPOSALS = 'nms_pre nms_post max_per_img nms min_bbox_size nms_across_levels nms_thr max_num'
_ASSIGNMENT = 'assigner sampler allowed_border pos_weight debug ga_assigner ga_sampler center_ratio ignore_ratio'
_TRAIN = (
    f'{_ASSIGNMENT} initial_epoch initial_assigner reg_assigner alpha beta gamma neg_pos_ratio smoothl1_beta init '
    'refine cls_assigner num_points oversample_ratio importance_sample_ratio mask_size soft_mask_target pos_radius '
    'max_num_grid isr carl dynamic_rcnn rpn rcnn rpn_proposal augments mask_thr_binary'
)
_TEST = (
    f'{_PROPOSALS} score_thr mask_thr_binary mask_thr rpn rcnn panoptic score_voting kernel sigma iou_thr filter_thr '
    'top_k topk corner_topk local_maximum_kernel distance_threshold conf_thr object_mask_thr chunked_size panoptic_on '
    'semantic_on instance_on max_per_image filter_low_score mask_format vote_thr mask_size subdivision_steps '
    'subdivision_num_points scale_factor with_nms min_scale nms_type multi_label yolox_style rpn_score_thr method '
    'mask_overlap stuff_area_limit size_divisor mask_stride iou_threshold class_agnostic use_sigmoid_cls'
)
_ATTENTION = (
    'embed_dims num_heads num_levels num_points im2col_step dropout batch_first attn_drop proj_drop dropout_layer '
    'norm_cfg init_cfg value_proj_ratio cross_attn bias method offset_scale'
)
_LAYERS = 'num_layers layer_cfg return_intermediate post_norm_cfg num_cp init_cfg text_layer_cfg fusion_layer_cfg'
# In a model: an unknown key is a mistake where every class of the model is ours
MODEL_KEYS: dict[str, str] = {
    'train_cfg': _TRAIN,
    'test_cfg': _TEST,
    'rpn': f'{_TRAIN} {_PROPOSALS}',
    'rcnn': f'{_TRAIN} {_TEST}',
    'rpn_proposal': _PROPOSALS,
    'init': _ASSIGNMENT,
    'refine': _ASSIGNMENT,
    'panoptic': 'mask_overlap stuff_area_limit',
    'isr': 'k bias',
    'carl': 'k bias',
    'dynamic_rcnn': 'iou_topk beta_topk update_iter_interval initial_iou initial_beta',
    'perm_repeat_gt_cfg': 'iou_thr perm_range',
    'plugins': 'cfg stages position',
    'upsample_cfg': 'mode scale_factor align_corners recompute_scale_factor antialias',
    'init_cfg': 'checkpoint prefix map_location',
    'tta_cfg': 'nms max_per_img merge vote_thr score_thr scale_ranges',
    'semi_test_cfg': 'predict_on forward_on extract_feat_on',
    'semi_train_cfg': (
        'freeze_teacher sup_weight unsup_weight pseudo_label_initial_score_thr rpn_pseudo_thr cls_pseudo_thr '
        'reg_pseudo_thr jitter_times jitter_scale min_pseudo_bbox_wh'
    ),
    'dn_cfg': 'label_noise_scale box_noise_scale group_cfg',
    'group_cfg': 'dynamic num_groups num_dn_queries',
    'positional_encoding': 'num_feats normalize offset temperature scale eps init_cfg',
    'encoder': _LAYERS,
    'decoder': f'{_LAYERS} query_dim query_scale_type with_modulated_hw_attn eval_idx',
    'transformer_decoder': _LAYERS,
    'layer_cfg': 'self_attn_cfg cross_attn_cfg cross_attn_text_cfg ffn_cfg norm_cfg init_cfg gateway',
    'text_layer_cfg': 'self_attn_cfg ffn_cfg norm_cfg init_cfg',
    'self_attn_cfg': _ATTENTION,
    'cross_attn_cfg': _ATTENTION,
    'cross_attn_text_cfg': _ATTENTION,
    'ffn_cfg': 'embed_dims feedforward_channels num_fcs act_cfg ffn_drop dropout_layer add_identity init_cfg '
    'layer_scale_init_value',
    'contrastive_cfg': 'max_text_len log_scale bias',
    **dict.fromkeys(('stage1', 'stage2', 'stage3', 'stage4'), 'num_modules num_branches block num_blocks num_channels'),
    'extra': 'stage1 stage2 stage3 stage4',
}
_LOADER = (
    'dataset sampler batch_sampler batch_size num_workers persistent_workers pin_memory drop_last collate_fn shuffle '
    'worker_init_fn timeout multiprocessing_context generator prefetch_factor pin_memory_device in_order '
    'num_batch_per_epoch disable_subprocess_warning'
)
# Elsewhere, and always a mistake, but in a dataset of others
CLOSED_KEYS: dict[str, str] = {
    **dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), _LOADER),
    'auto_scale_lr': 'enable base_batch_size',
    'randomness': 'seed diff_rank_seed deterministic',
    'custom_imports': 'imports allow_failed_imports',
    'env_cfg': 'cudnn_benchmark mp_cfg dist_cfg resource_limit',
    'mp_cfg': 'mp_start_method opencv_num_threads',
    'clip_grad': 'type max_norm norm_type error_if_nonfinite foreach clip_value',
    'filter_cfg': 'filter_empty_gt min_size bbox_min_size',
    'data_prefix': 'img img_path seg seg_map_path anno sub_data_root',
    'pad_val': 'img masks seg mask gt_seg_map',
}
# Others may stand beside these: only what resembles one of them is a mistake
OPEN_KEYS: dict[str, str] = {
    'metainfo': 'classes palette',
    'default_hooks': 'runtime_info timer sampler_seed logger param_scheduler checkpoint visualization nonfinite_loss '
    'signals progress early_stopping',
    'dist_cfg': 'backend init_backend timeout port',
    'paramwise_cfg': 'custom_keys bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult '
    'dcn_offset_lr_mult bypass_duplicate num_layers decay_rate decay_type',
    'custom_cfg': 'data_src method_name log_name window_size',
    'keymap': 'img gt_masks gt_bboxes',
    'compile': 'backend mode fullgraph dynamic options disable',
    'override': 'type name',
}
# What a builder of layers takes out before the class is made
LAYER_EXTRAS = {
    'norm_cfg': ('requires_grad',),
    'norm': ('requires_grad',),
    'dcn': ('fallback_on_stride',),
    'conv_cfg': ('fallback_on_stride',),
    'sac': ('fallback_on_stride',),
    'upsample_cfg': (
        'mode',
        'align_corners',
        'scale_factor',
        'upsample_kernel',
        'up_kernel',
        'up_group',
        'recompute_scale_factor',
    ),
}
# Keys of 2.x, which nothing of 3.x reads
OLD_KEYS = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'lr_config': 'param_scheduler',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger and visualizer',
    'resume_from': 'load_from with resume=True',
    'dist_params': 'env_cfg.dist_cfg',
    'seed': 'randomness.seed',
    'workflow': 'train_cfg.val_interval',
}


def words(text: str) -> frozenset[str]:
    """The words of a text, such as the keys of a table above."""
    return frozenset(text.split())


@cache
def keyword_names(function: Callable[..., Any]) -> frozenset[str]:
    """What a function takes by name; nothing where it cannot be asked."""
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


def backend_keys(backend_args: dict) -> frozenset[str] | None:
    """The keys that ``backend_args`` may have, None for a backend that is not known here."""
    from mmengine.fileio.backends.registry_utils import backends

    name = backend_args.get('backend')
    if name is None:
        return frozenset({'backend'})
    kind = backends.get(name)
    return None if kind is None else keyword_names(kind) | {'backend'}


# By the function that suppresses: what its ``nms`` config may hold
_NMS = 'iou_threshold iou_thr class_agnostic split_thr max_num offset'
NMS_KEYS = {'nms': f'{_NMS} score_threshold', 'soft_nms': f'{_NMS} sigma min_score method'}
