"""What MMDetection 3.x registers, so that an error can tell what is still to come from a mistake."""

from __future__ import annotations

import functools
import importlib.abc
import sys
from typing import Any

from mmdet.errors import UserImportError

# package -> modules, each with the names that it registers
REGISTERED = {
    'mmdet.datasets': (
        'ade20k ADE20KInstanceDataset ADE20KPanopticDataset ADE20KSegDataset; base_det_dataset BaseDetDataset; '
        'base_semseg_dataset BaseSegDataset; base_video_dataset BaseVideoDataset; cityscapes CityscapesDataset; coco '
        'CocoDataset; coco_caption CocoCaptionDataset; coco_panoptic CocoPanopticDataset; coco_semantic '
        'CocoSegDataset; crowdhuman CrowdHumanDataset; dataset_wrappers ConcatDataset MultiImageMixDataset; '
        'deepfashion DeepFashionDataset; dod DODDataset; dsdl DSDLDetDataset; flickr30k Flickr30kDataset; isaid '
        'iSAIDDataset; lvis LVISV05Dataset LVISV1Dataset; mdetr_style_refcoco MDETRStyleRefCocoDataset; '
        'mot_challenge_dataset MOTChallengeDataset; objects365 Objects365V1Dataset Objects365V2Dataset; odvg '
        'ODVGDataset; openimages OpenImagesChallengeDataset OpenImagesDataset; refcoco RefCocoDataset; reid_dataset '
        'ReIDDataset; v3det V3DetDataset; voc VOCDataset; wider_face WIDERFaceDataset; xml_style XMLDataset; '
        'youtube_vis_dataset YouTubeVISDataset'
    ),
    'mmdet.datasets.samplers': (
        'batch_sampler AspectRatioBatchSampler MultiDataAspectRatioBatchSampler TrackAspectRatioBatchSampler; '
        'class_aware_sampler ClassAwareSampler; custom_sample_size_sampler CustomSampleSizeSampler; '
        'multi_data_sampler MultiDataSampler; multi_source_sampler GroupMultiSourceSampler MultiSourceSampler; '
        'track_img_sampler TrackImgSampler'
    ),
    'mmdet.datasets.transforms': (
        'augment_wrappers AutoAugment RandAugment; colorspace AutoContrast Brightness Color ColorTransform Contrast '
        'Equalize Invert Posterize Sharpness Solarize SolarizeAdd; formatting ImageToTensor PackDetInputs '
        'PackReIDInputs PackTrackInputs ToTensor Transpose WrapFieldsToLists; frame_sampling BaseFrameSample '
        'UniformRefFrameSample; geometric GeomTransform Rotate ShearX ShearY TranslateX TranslateY; instaboost '
        'InstaBoost; loading FilterAnnotations InferencerLoader LoadAnnotations LoadEmptyAnnotations '
        'LoadImageFromNDArray LoadMultiChannelImageFromFiles LoadPanopticAnnotations LoadProposals '
        'LoadTrackAnnotations; text_transformers LoadTextAnnotations RandomSamplingNegPos; transformers_glip '
        'GTBoxSubOne_GLIP RandomFlip_GLIP; transforms Albu CachedMixUp CachedMosaic CopyPaste Corrupt CutOut Expand '
        'FixScaleResize FixShapeResize MinIoURandomCrop MixUp Mosaic Pad PhotoMetricDistortion RandomAffine '
        'RandomCenterCropPad RandomCrop RandomErasing RandomFlip RandomShift Resize ResizeShortestEdge SegRescale '
        'YOLOXHSVRandomAug; wrappers MultiBranch ProposalBroadcaster RandomOrder'
    ),
    'mmdet.engine.hooks': (
        'checkloss_hook CheckInvalidLossHook; mean_teacher_hook MeanTeacherHook; memory_profiler_hook '
        'MemoryProfilerHook; num_class_check_hook NumClassCheckHook; pipeline_switch_hook PipelineSwitchHook; '
        'set_epoch_info_hook SetEpochInfoHook; sync_norm_hook SyncNormHook; visualization_hook DetVisualizationHook '
        'GroundingVisualizationHook TrackVisualizationHook; yolox_mode_switch_hook YOLOXModeSwitchHook'
    ),
    'mmdet.engine.optimizers': 'layer_decay_optimizer_constructor LearningRateDecayOptimizerConstructor',
    'mmdet.engine.runner': 'loops TeacherStudentValLoop',
    'mmdet.engine.schedulers': (
        'quadratic_warmup QuadraticWarmupLR QuadraticWarmupMomentum QuadraticWarmupParamScheduler'
    ),
    'mmdet.evaluation.evaluator': 'multi_datasets_evaluator MultiDatasetsEvaluator',
    'mmdet.evaluation.metrics': (
        'cityscapes_metric CityScapesMetric; coco_caption_metric COCOCaptionMetric; coco_metric CocoMetric; '
        'coco_occluded_metric CocoOccludedSeparatedMetric; coco_panoptic_metric CocoPanopticMetric; coco_video_metric '
        'CocoVideoMetric; crowdhuman_metric CrowdHumanMetric; dod_metric DODCocoMetric; dump_det_results '
        'DumpDetResults; dump_odvg_results DumpODVGResults; dump_proposals_metric DumpProposals; flickr30k_metric '
        'Flickr30kMetric; grefcoco_metric gRefCOCOMetric; lvis_metric LVISFixedAPMetric LVISMetric; '
        'mot_challenge_metric MOTChallengeMetric; openimages_metric OpenImagesMetric; ov_coco_metric OVCocoMetric; '
        'refexp_metric RefExpMetric; refseg_metric RefSegMetric; reid_metric ReIDMetrics; semseg_metric SemSegMetric; '
        'voc_metric VOCMetric; youtube_vis_metric YouTubeVISMetric'
    ),
    'mmdet.models.backbones': (
        'csp_darknet CSPDarknet; cspnext CSPNeXt; darknet Darknet; detectors_resnet DetectoRS_ResNet; '
        'detectors_resnext DetectoRS_ResNeXt; efficientnet EfficientNet; hourglass HourglassNet; hrnet HRNet; '
        'mobilenet_v2 MobileNetV2; pvt PyramidVisionTransformer PyramidVisionTransformerV2; regnet RegNet; res2net '
        'Res2Net; resnest ResNeSt; resnet ResNet ResNetV1d; resnext ResNeXt; ssd_vgg SSDVGG; swin SwinTransformer; '
        'trident_resnet TridentResNet'
    ),
    'mmdet.models.data_preprocessors': (
        'data_preprocessor BatchFixedSizePad BatchResize BatchSyncRandomResize BoxInstDataPreprocessor '
        'DetDataPreprocessor MultiBranchDataPreprocessor; reid_data_preprocessor ReIDDataPreprocessor; '
        'track_data_preprocessor TrackDataPreprocessor'
    ),
    'mmdet.models.dense_heads': (
        'anchor_free_head AnchorFreeHead; anchor_head AnchorHead; atss_head ATSSHead; atss_vlfusion_head '
        'ATSSVLFusionHead; autoassign_head AutoAssignHead; boxinst_head BoxInstBboxHead BoxInstMaskHead; '
        'cascade_rpn_head CascadeRPNHead StageCascadeRPNHead; centernet_head CenterNetHead; centernet_update_head '
        'CenterNetUpdateHead; centripetal_head CentripetalHead; condinst_head CondInstBboxHead CondInstMaskHead; '
        'conditional_detr_head ConditionalDETRHead; corner_head CornerHead; dab_detr_head DABDETRHead; ddod_head '
        'DDODHead; ddq_detr_head DDQDETRHead; deformable_detr_head DeformableDETRHead; detr_head DETRHead; dino_head '
        'DINOHead; embedding_rpn_head EmbeddingRPNHead; fcos_head FCOSHead; fovea_head FoveaHead; '
        'free_anchor_retina_head FreeAnchorRetinaHead; fsaf_head FSAFHead; ga_retina_head GARetinaHead; ga_rpn_head '
        'GARPNHead; gfl_head GFLHead; grounding_dino_head GroundingDINOHead; guided_anchor_head GuidedAnchorHead; '
        'lad_head LADHead; ld_head LDHead; mask2former_head Mask2FormerHead; maskformer_head MaskFormerHead; '
        'nasfcos_head NASFCOSHead; paa_head PAAHead; pisa_retinanet_head PISARetinaHead; pisa_ssd_head PISASSDHead; '
        'reppoints_head RepPointsHead; retina_head RetinaHead; retina_sepbn_head RetinaSepBNHead; rpn_head RPNHead; '
        'rtmdet_head RTMDetHead RTMDetSepBNHead; rtmdet_ins_head RTMDetInsHead RTMDetInsSepBNHead; sabl_retina_head '
        'SABLRetinaHead; solo_head DecoupledSOLOHead DecoupledSOLOLightHead SOLOHead; solov2_head SOLOV2Head; '
        'ssd_head SSDHead; tood_head TOODHead; vfnet_head VFNetHead; yolact_head YOLACTHead YOLACTProtonet; yolo_head '
        'YOLOV3Head; yolof_head YOLOFHead; yolox_head YOLOXHead'
    ),
    'mmdet.models.detectors': (
        'atss ATSS; autoassign AutoAssign; base_detr DetectionTransformer; boxinst BoxInst; cascade_rcnn CascadeRCNN; '
        'centernet CenterNet; condinst CondInst; conditional_detr ConditionalDETR; cornernet CornerNet; crowddet '
        'CrowdDet; d2_wrapper Detectron2Wrapper; dab_detr DABDETR; ddod DDOD; ddq_detr DDQDETR; deformable_detr '
        'DeformableDETR; detr DETR; dino DINO; fast_rcnn FastRCNN; faster_rcnn FasterRCNN; fcos FCOS; fovea FOVEA; '
        'fsaf FSAF; gfl GFL; glip GLIP; grid_rcnn GridRCNN; grounding_dino GroundingDINO; htc HybridTaskCascade; '
        'kd_one_stage KnowledgeDistillationSingleStageDetector; lad LAD; mask2former Mask2Former; mask_rcnn MaskRCNN; '
        'mask_scoring_rcnn MaskScoringRCNN; maskformer MaskFormer; nasfcos NASFCOS; paa PAA; panoptic_fpn '
        'PanopticFPN; panoptic_two_stage_segmentor TwoStagePanopticSegmentor; point_rend PointRend; queryinst '
        'QueryInst; reppoints_detector RepPointsDetector; retinanet RetinaNet; rpn RPN; rtmdet RTMDet; scnet SCNet; '
        'semi_base SemiBaseDetector; single_stage SingleStageDetector; single_stage_instance_seg '
        'SingleStageInstanceSegmentor; soft_teacher SoftTeacher; solo SOLO; solov2 SOLOv2; sparse_rcnn SparseRCNN; '
        'tood TOOD; trident_faster_rcnn TridentFasterRCNN; two_stage TwoStageDetector; vfnet VFNet; yolact YOLACT; '
        'yolo YOLOV3; yolof YOLOF; yolox YOLOX'
    ),
    'mmdet.models.language_models': 'bert BertModel',
    'mmdet.models.layers': (
        'brick_wrappers FrozenBatchNorm2d; dropblock DropBlock; ema ExpMomentumEMA; msdeformattn_pixel_decoder '
        'MSDeformAttnPixelDecoder; normed_predictor NormedConv2d NormedLinear; pixel_decoder PixelDecoder '
        'TransformerEncoderPixelDecoder; positional_encoding LearnedPositionalEncoding SinePositionalEncoding '
        'SinePositionalEncoding3D'
    ),
    'mmdet.models.layers.transformer': 'utils DynamicConv',
    'mmdet.models.losses': (
        'ae_loss AssociativeEmbeddingLoss; balanced_l1_loss BalancedL1Loss; cross_entropy_loss CrossEntropyCustomLoss '
        'CrossEntropyLoss; dice_loss DiceLoss; eqlv2_loss EQLV2Loss; focal_loss FocalCustomLoss FocalLoss; '
        'gaussian_focal_loss GaussianFocalLoss; gfocal_loss DistributionFocalLoss QualityFocalLoss; ghm_loss GHMC '
        'GHMR; iou_loss BoundedIoULoss CIoULoss DIoULoss EIoULoss GIoULoss IoULoss SIoULoss; kd_loss '
        'KnowledgeDistillationKLDivLoss; l2_loss L2Loss; margin_loss MarginL2Loss; mse_loss MSELoss; '
        'multipos_cross_entropy_loss MultiPosCrossEntropyLoss; seesaw_loss SeesawLoss; smooth_l1_loss L1Loss '
        'SmoothL1Loss; triplet_loss TripletLoss; varifocal_loss VarifocalLoss'
    ),
    'mmdet.models.mot': (
        'base BaseMOTModel; bytetrack ByteTrack; deep_sort DeepSORT; ocsort OCSORT; qdtrack QDTrack; strongsort '
        'StrongSORT'
    ),
    'mmdet.models.necks': (
        'bfp BFP; channel_mapper ChannelMapper; cspnext_pafpn CSPNeXtPAFPN; ct_resnet_neck CTResNetNeck; '
        'dilated_encoder DilatedEncoder; dyhead DyHead; fpg FPG; fpn FPN; fpn_carafe FPN_CARAFE; fpn_dropblock '
        'FPN_DropBlock; hrfpn HRFPN; nas_fpn NASFPN; nasfcos_fpn NASFCOS_FPN; pafpn PAFPN; rfp RFP; ssd_neck SSDNeck; '
        'ssh SSH; yolo_neck YOLOV3Neck; yolox_pafpn YOLOXPAFPN'
    ),
    'mmdet.models.reid': (
        'base_reid BaseReID; fc_module FcModule; gap GlobalAveragePooling; linear_reid_head LinearReIDHead'
    ),
    'mmdet.models.roi_heads': (
        'cascade_roi_head CascadeRoIHead; double_roi_head DoubleHeadRoIHead; dynamic_roi_head DynamicRoIHead; '
        'grid_roi_head GridRoIHead; htc_roi_head HybridTaskCascadeRoIHead; mask_scoring_roi_head MaskScoringRoIHead; '
        'multi_instance_roi_head MultiInstanceRoIHead; pisa_roi_head PISARoIHead; point_rend_roi_head '
        'PointRendRoIHead; scnet_roi_head SCNetRoIHead; sparse_roi_head SparseRoIHead; standard_roi_head '
        'StandardRoIHead; trident_roi_head TridentRoIHead'
    ),
    'mmdet.models.roi_heads.bbox_heads': (
        'bbox_head BBoxHead; convfc_bbox_head ConvFCBBoxHead Shared2FCBBoxHead Shared4Conv1FCBBoxHead; dii_head '
        'DIIHead; double_bbox_head DoubleConvFCBBoxHead; multi_instance_bbox_head MultiInstanceBBoxHead; sabl_head '
        'SABLHead; scnet_bbox_head SCNetBBoxHead'
    ),
    'mmdet.models.roi_heads.mask_heads': (
        'coarse_mask_head CoarseMaskHead; dynamic_mask_head DynamicMaskHead; fcn_mask_head FCNMaskHead; '
        'feature_relay_head FeatureRelayHead; fused_semantic_head FusedSemanticHead; global_context_head '
        'GlobalContextHead; grid_head GridHead; htc_mask_head HTCMaskHead; mask_point_head MaskPointHead; '
        'maskiou_head MaskIoUHead; scnet_mask_head SCNetMaskHead; scnet_semantic_head SCNetSemanticHead'
    ),
    'mmdet.models.roi_heads.roi_extractors': (
        'generic_roi_extractor GenericRoIExtractor; single_level_roi_extractor SingleRoIExtractor'
    ),
    'mmdet.models.roi_heads.shared_heads': 'res_layer ResLayer',
    'mmdet.models.seg_heads': 'base_semantic_head BaseSemanticHead; panoptic_fpn_head PanopticFPNHead',
    'mmdet.models.seg_heads.panoptic_fusion_heads': (
        'base_panoptic_fusion_head BasePanopticFusionHead; heuristic_fusion_head HeuristicFusionHead; '
        'maskformer_fusion_head MaskFormerFusionHead'
    ),
    'mmdet.models.task_modules.assigners': (
        'approx_max_iou_assigner ApproxMaxIoUAssigner; atss_assigner ATSSAssigner; center_region_assigner '
        'CenterRegionAssigner; dynamic_soft_label_assigner DynamicSoftLabelAssigner; grid_assigner GridAssigner; '
        'hungarian_assigner HungarianAssigner; iou2d_calculator BboxOverlaps2D BboxOverlaps2D_GLIP; match_cost '
        'BBoxL1Cost BinaryFocalLossCost ClassificationCost CrossEntropyLossCost DiceCost FocalLossCost IoUCost; '
        'max_iou_assigner MaxIoUAssigner; multi_instance_assigner MultiInstanceAssigner; point_assigner '
        'PointAssigner; region_assigner RegionAssigner; sim_ota_assigner SimOTAAssigner; task_aligned_assigner '
        'TaskAlignedAssigner; topk_hungarian_assigner TopkHungarianAssigner; uniform_assigner UniformAssigner'
    ),
    'mmdet.models.task_modules.coders': (
        'bucketing_bbox_coder BucketingBBoxCoder; delta_xywh_bbox_coder DeltaXYWHBBoxCoder DeltaXYWHBBoxCoderForGLIP; '
        'distance_point_bbox_coder DistancePointBBoxCoder; legacy_delta_xywh_bbox_coder LegacyDeltaXYWHBBoxCoder; '
        'pseudo_bbox_coder PseudoBBoxCoder; tblr_bbox_coder TBLRBBoxCoder; yolo_bbox_coder YOLOBBoxCoder'
    ),
    'mmdet.models.task_modules.prior_generators': (
        'anchor_generator AnchorGenerator LegacyAnchorGenerator LegacySSDAnchorGenerator SSDAnchorGenerator '
        'YOLOAnchorGenerator; point_generator MlvlPointGenerator PointGenerator'
    ),
    'mmdet.models.task_modules.samplers': (
        'combined_sampler CombinedSampler; instance_balanced_pos_sampler InstanceBalancedPosSampler; '
        'iou_balanced_neg_sampler IoUBalancedNegSampler; mask_pseudo_sampler MaskPseudoSampler; '
        'multi_instance_random_sampler MultiInsRandomSampler; ohem_sampler OHEMSampler; pseudo_sampler PseudoSampler; '
        'random_sampler RandomSampler; score_hlr_sampler ScoreHLRSampler'
    ),
    'mmdet.models.task_modules.tracking': (
        'aflink AppearanceFreeLink; camera_motion_compensation CameraMotionCompensation; interpolation '
        'InterpolateTracklets; kalman_filter KalmanFilter'
    ),
    'mmdet.models.test_time_augs': 'det_tta DetTTAModel',
    'mmdet.models.trackers': (
        'byte_tracker ByteTracker; masktrack_rcnn_tracker MaskTrackRCNNTracker; ocsort_tracker OCSORTTracker; '
        'quasi_dense_tracker QuasiDenseTracker; sort_tracker SORTTracker; strongsort_tracker StrongSORTTracker'
    ),
    'mmdet.models.tracking_heads': (
        'mask2former_track_head Mask2FormerTrackHead; quasi_dense_embed_head QuasiDenseEmbedHead; '
        'quasi_dense_track_head QuasiDenseTrackHead; roi_embed_head RoIEmbedHead; roi_track_head RoITrackHead'
    ),
    'mmdet.models.vis': 'mask2former_vis Mask2FormerVideo; masktrack_rcnn MaskTrackRCNN',
    'mmdet.testing': '_fast_stop_training_hook FastStopTrainingHook',
    'mmdet.visualization': 'local_visualizer DetLocalVisualizer TrackLocalVisualizer',
}
# and with the other names that packages of 3.x export
EXPORTED = {
    'mmdet.apis': (
        'det_inferencer DetInferencer; inference inference_detector inference_mot init_detector init_track_model'
    ),
    'mmdet.datasets': 'utils get_loading_pipeline',
    'mmdet.datasets.api_wrappers': 'coco_api COCO COCOPanoptic; cocoeval_mp COCOevalMP',
    'mmdet.engine.hooks': 'utils trigger_visualization_hook',
    'mmdet.evaluation.functional': (
        'bbox_overlaps bbox_overlaps; cityscapes_utils evaluateImgLists; class_names cityscapes_classes coco_classes '
        'coco_panoptic_classes get_classes imagenet_det_classes imagenet_vid_classes objects365v1_classes '
        'objects365v2_classes oid_challenge_classes oid_v6_classes voc_classes; mean_ap average_precision eval_map '
        'print_map_summary; panoptic_utils pq_compute_multi_core pq_compute_single_core; recall eval_recalls '
        'plot_iou_recall plot_num_recall print_recall_summary; ytvis YTVIS; ytviseval YTVISeval'
    ),
    'mmdet.evaluation.metrics': 'base_video_metric BaseVideoMetric',
    'mmdet.models.dense_heads': 'guided_anchor_head FeatureAdaption',
    'mmdet.models.detectors': 'base BaseDetector',
    'mmdet.models.layers': (
        'bbox_nms fast_nms multiclass_nms; brick_wrappers adaptive_avg_pool2d AdaptiveAvgPool2d; conv_upsample '
        'ConvUpsample; csp_layer CSPLayer; inverted_residual InvertedResidual; matrix_nms mask_matrix_nms; res_layer '
        'ResLayer SimplifiedBasicBlock; se_layer ChannelAttention DyReLU SELayer'
    ),
    'mmdet.models.layers.transformer': (
        'conditional_detr_layers ConditionalDetrTransformerDecoder ConditionalDetrTransformerDecoderLayer; '
        'dab_detr_layers DABDetrTransformerDecoder DABDetrTransformerDecoderLayer DABDetrTransformerEncoder; '
        'ddq_detr_layers DDQTransformerDecoder; deformable_detr_layers DeformableDetrTransformerDecoder '
        'DeformableDetrTransformerDecoderLayer DeformableDetrTransformerEncoder '
        'DeformableDetrTransformerEncoderLayer; detr_layers DetrTransformerDecoder DetrTransformerDecoderLayer '
        'DetrTransformerEncoder DetrTransformerEncoderLayer; dino_layers CdnQueryGenerator DinoTransformerDecoder; '
        'grounding_dino_layers GroundingDinoTransformerDecoder GroundingDinoTransformerDecoderLayer '
        'GroundingDinoTransformerEncoder; mask2former_layers Mask2FormerTransformerDecoder '
        'Mask2FormerTransformerDecoderLayer Mask2FormerTransformerEncoder; utils AdaptivePadding ConditionalAttention '
        'coordinate_to_encoding inverse_sigmoid MLP nchw_to_nlc nlc_to_nchw PatchEmbed PatchMerging'
    ),
    'mmdet.models.losses': (
        'accuracy Accuracy accuracy; balanced_l1_loss balanced_l1_loss; cross_entropy_loss binary_cross_entropy '
        'cross_entropy mask_cross_entropy; ddq_detr_aux_loss DDQAuxLoss; focal_loss sigmoid_focal_loss; iou_loss '
        'bounded_iou_loss iou_loss; mse_loss mse_loss; pisa_loss carl_loss isr_p; smooth_l1_loss l1_loss '
        'smooth_l1_loss; utils reduce_loss weight_reduce_loss weighted_loss'
    ),
    'mmdet.models.roi_heads': 'base_roi_head BaseRoIHead',
    'mmdet.models.roi_heads.roi_extractors': 'base_roi_extractor BaseRoIExtractor',
    'mmdet.models.task_modules': (
        'builder build_anchor_generator build_assigner build_bbox_coder build_iou_calculator build_match_cost '
        'build_prior_generator build_sampler'
    ),
    'mmdet.models.task_modules.assigners': 'assign_result AssignResult; base_assigner BaseAssigner',
    'mmdet.models.task_modules.coders': 'base_bbox_coder BaseBBoxCoder',
    'mmdet.models.task_modules.prior_generators': 'utils anchor_inside_flags calc_region',
    'mmdet.models.task_modules.samplers': (
        'base_sampler BaseSampler; mask_sampling_result MaskSamplingResult; multi_instance_sampling_result '
        'MultiInstanceSamplingResult; sampling_result SamplingResult'
    ),
    'mmdet.models.task_modules.tracking': 'similarity embed_similarity',
    'mmdet.models.test_time_augs': (
        'merge_augs merge_aug_bboxes merge_aug_masks merge_aug_proposals merge_aug_results merge_aug_scores'
    ),
    'mmdet.models.trackers': 'base_tracker BaseTracker',
    'mmdet.models.utils': (
        'gaussian_target gather_feat gaussian_radius gen_gaussian_target get_local_maximum get_topk_from_heatmap '
        'transpose_and_gather_feat; image imrenormalize; make_divisible make_divisible; misc align_tensor '
        'aligned_bilinear center_of_mass empty_instances filter_gt_instances filter_scores_and_topk flip_tensor '
        'generate_coordinate images_to_levels interpolate_as levels_to_images mask2ndarray multi_apply '
        'relative_coordinate_maps rename_loss_dict reweight_loss_dict samplelist_boxtype2tensor select_single_mlvl '
        'unfold_wo_center unmap unpack_gt_instances; panoptic_gt_processing preprocess_panoptic_gt; point_sample '
        'get_uncertain_point_coords_with_randomness get_uncertainty; vlfuse_helper BertEncoderLayer '
        'permute_and_flatten VLFuse; wbf weighted_boxes_fusion'
    ),
    'mmdet.structures': (
        'det_data_sample DetDataSample; reid_data_sample ReIDDataSample; track_data_sample TrackDataSample'
    ),
    'mmdet.structures.bbox': (
        'base_boxes BaseBoxes; bbox_overlaps bbox_overlaps; box_type autocast_box_type convert_box_type get_box_type '
        'register_box register_box_converter; horizontal_boxes HorizontalBoxes; transforms bbox2corner bbox2distance '
        'bbox2result bbox2roi bbox_cxcyah_to_xyxy bbox_cxcywh_to_xyxy bbox_flip bbox_mapping bbox_mapping_back '
        'bbox_project bbox_rescale bbox_xyxy_to_cxcyah bbox_xyxy_to_cxcywh cat_boxes corner2bbox distance2bbox '
        'empty_box_as find_inside_bboxes get_box_tensor get_box_wh roi2bbox scale_boxes stack_boxes'
    ),
    'mmdet.structures.mask': (
        'mask_target mask_target; structures BaseInstanceMasks bitmap_to_polygon BitmapMasks polygon_to_bitmap '
        'PolygonMasks; utils encode_mask_results mask2bbox split_combined_polys'
    ),
    'mmdet.testing': (
        '_utils demo_mm_inputs demo_mm_proposals demo_mm_sampling_results demo_track_inputs get_detector_cfg '
        'get_roi_head_cfg random_boxes replace_to_ceph'
    ),
    'mmdet.utils': (
        'collect_env collect_env; compat_config compat_cfg; dist_utils all_reduce_dict allreduce_grads reduce_mean '
        'sync_random_seed; logger get_caller_name log_img_scale; memory AvoidOOM; misc find_latest_checkpoint '
        'get_test_pipeline_cfg update_data_root; mot_error_visualize imshow_mot_errors; replace_cfg_vals '
        'replace_cfg_vals; setup_env register_all_modules setup_cache_size_limit_of_dynamo setup_multi_processes; '
        'split_batch split_batch'
    ),
    'mmdet.visualization': 'palette get_palette jitter_color palette_val',
}


def _modules(table: dict[str, str]) -> dict[str, list[str]]:
    """Module -> its names."""
    rows = [(package, row.split()) for package, text in table.items() for row in text.split(';')]
    return {f'{package}.{module}': names for package, (module, *names) in rows}


@functools.cache
def registered_names() -> dict[str, str]:
    """Name -> the module of MMDetection 3.x that registers it."""
    return {name: module for module, names in _modules(REGISTERED).items() for name in names}


@functools.cache
def _homes() -> frozenset[tuple[str, str]]:
    """Modules, each with each of its names."""
    return frozenset(
        (module, name)
        for table in (REGISTERED, EXPORTED)
        for module, names in _modules(table).items()
        for name in names
    )


@functools.cache
def _paths() -> frozenset[str]:
    """Modules and packages of the tables."""
    return frozenset({*REGISTERED, *EXPORTED, *(module for module, _ in _homes())})


def absent(package: str, name: str) -> str | None:
    """What to say of a ``name`` that ``package`` does not have, if it has it in MMDetection 3.x."""
    if not any(name == known and module.startswith(f'{package}.') for module, known in _homes()):
        return None
    return f'{name!r} is part of MMDetection 3.x but not yet in this package.'


class AbsentImportError(UserImportError, ModuleNotFoundError):
    """An import that MMDetection 3.x satisfies and this package does not yet."""


class AbsentModules(importlib.abc.MetaPathFinder):
    """Says of an import that only MMDetection 3.x can satisfy that it is not the fault of who asks for it.

    It stands last in ``sys.meta_path``, so it is asked only for what nothing else finds.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """No spec for any path.

        Raises:
            AbsentImportError: for what MMDetection 3.x has there.
        """
        package, _, name = fullname.rpartition('.')
        if fullname in _paths():
            text = f'{fullname!r} is part of MMDetection 3.x but not yet in this package.'
            raise AbsentImportError(text, name=fullname)
        message = absent(package, name)
        if message:  # of "from package import name", which goes on when the missing module is the name itself
            raise AbsentImportError(message, name=package)


def install_absent_modules() -> None:
    """Put :class:`AbsentModules` at the end of ``sys.meta_path``."""
    sys.meta_path.append(AbsentModules())
