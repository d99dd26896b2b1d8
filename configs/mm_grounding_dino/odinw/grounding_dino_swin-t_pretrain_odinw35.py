_base_ = ['../grounding_dino_swin-t_pretrain_obj365.py', '../../_base_/datasets/odinw35.py']

val_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=_base_.odinw_datasets))
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='MultiDatasetsEvaluator',
    metrics=_base_.odinw_metrics,
    dataset_prefixes=_base_.odinw_prefixes,
)
test_evaluator = val_evaluator
