"""Where modules of MMDetection 3.x, of 2.x, and of the compiled mmcv are found here: one table of old names."""

from __future__ import annotations

from mmdet.lazy import install_facades, install_old_paths

# package -> module of ours -> modules of MMDetection 3.x that are merged in it
MERGED = {
    'mmdet.datasets.api_wrappers': {'cocoeval': 'cocoeval_mp'},
    'mmdet.datasets.transforms': {'wrappers': 'augment_wrappers'},
    'mmdet.evaluation.functional': {'overlaps': 'bbox_overlaps', 'panoptic': 'panoptic_utils'},
    'mmdet.models.backbones': {'detectors_resnet': 'detectors_resnext'},
    'mmdet.models.dense_heads': {
        'detr_head': 'conditional_detr_head dab_detr_head',
        'pisa_heads': 'pisa_retinanet_head pisa_ssd_head',
        'retina_head': 'retina_sepbn_head',
    },
    'mmdet.models.detectors': {
        'detr': 'conditional_detr dab_detr',
        'maskformer': 'mask2former',
        'kd_one_stage': 'lad',
        'sparse_rcnn': 'queryinst',
        'panoptic_two_stage_segmentor': 'panoptic_fpn',
        'single_stage': (
            'atss autoassign centernet cornernet ddod fcos fovea fsaf gfl nasfcos paa reppoints_detector retinanet '
            'rtmdet tood vfnet yolo yolof yolox'
        ),
        'single_stage_instance_seg': 'boxinst condinst solo solov2 yolact',
        'two_stage': (
            'cascade_rcnn crowddet fast_rcnn faster_rcnn grid_rcnn htc mask_rcnn mask_scoring_rcnn point_rend rpn scnet'
        ),
    },
    'mmdet.models.losses': {'l2_loss': 'margin_loss'},
    'mmdet.models.necks': {'yolox_pafpn': 'cspnext_pafpn'},
    'mmdet.models.roi_heads.mask_heads': {
        'scnet_heads': 'feature_relay_head global_context_head scnet_mask_head scnet_semantic_head'
    },
    'mmdet.models.task_modules.assigners': {
        'dynamic_assigners': 'dynamic_soft_label_assigner sim_ota_assigner task_aligned_assigner',
        'point_assigners': 'point_assigner',
    },
    'mmdet.utils': {'misc': 'replace_cfg_vals'},
}
# old module -> module of ours in another package
MOVED = {
    'mmdet.utils.large_image': 'mmdet.apis.large_image',
}
# old package or module -> packages of ours that have its names
SPREAD = {
    # of MMDetection 2.x
    'mmdet.core': (
        'mmdet.structures.bbox mmdet.structures.mask mmdet.models.task_modules mmdet.models.utils mmdet.models.layers '
        'mmdet.evaluation mmdet.utils'
    ),
    'mmdet.core.anchor': 'mmdet.models.task_modules mmdet.models.utils',
    'mmdet.core.bbox': 'mmdet.structures.bbox mmdet.models.task_modules',
    'mmdet.core.bbox.assigners': 'mmdet.models.task_modules.assigners',
    'mmdet.core.bbox.builder': 'mmdet.models.task_modules',
    'mmdet.core.bbox.coder': 'mmdet.models.task_modules.coders',
    'mmdet.core.bbox.iou_calculators': 'mmdet.models.task_modules.assigners mmdet.structures.bbox',
    'mmdet.core.bbox.samplers': 'mmdet.models.task_modules.samplers',
    'mmdet.core.bbox.transforms': 'mmdet.structures.bbox',
    'mmdet.core.evaluation': 'mmdet.evaluation',
    'mmdet.core.mask': 'mmdet.structures.mask',
    'mmdet.core.post_processing': 'mmdet.models.layers',
    'mmdet.core.utils': 'mmdet.models.utils mmdet.utils',
    'mmdet.datasets.pipelines': 'mmdet.datasets.transforms',
}
# modules of mmcv.ops whose names are in mmdet.ops, and in two modules of layers
MMCV_OPS = (
    'carafe corner_pool deform_conv deform_roi_pool focal_loss masked_conv merge_cells modulated_deform_conv '
    'multi_scale_deform_attn nms point_sample roi_align roi_pool saconv sync_bn'
)


def table() -> dict[str, str]:
    """Old module -> module of ours, of those that have one."""
    merged = {
        f'{package}.{old}': f'{package}.{new}'
        for package, modules in MERGED.items()
        for new, names in modules.items()
        for old in names.split()
    }
    return {**merged, **MOVED}


def install() -> None:
    """Make the old paths of the tables importable."""
    install_old_paths(table())
    install_facades({old: tuple(new.split()) for old, new in SPREAD.items()})
    ops: tuple[str, ...] = ('mmdet.ops', 'mmdet.models.layers.merge_cells', 'mmdet.models.layers.saconv')
    modules = dict.fromkeys(['mmcv.ops', *(f'mmcv.ops.{name}' for name in MMCV_OPS.split())], ops)
    install_facades(
        modules,
        unless='mmcv._ext',
        absent='{name!r} is neither an operator of mmdet.ops nor is the compiled mmcv installed, which has it.',
    )
