_base_ = ['../grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py', '../../_base_/datasets/odinw35.py']

plain = ('EgoHands_generic', 'pothole')  # the prompt keeps the bare class there

val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            {key: value for key, value in dataset.items() if key != 'caption_prompt' or name not in plain}
            for name, dataset in zip(_base_.odinw_prefixes, _base_.odinw_datasets)
        ],
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='MultiDatasetsEvaluator',
    metrics=_base_.odinw_metrics,
    dataset_prefixes=_base_.odinw_prefixes,
)
test_evaluator = val_evaluator
