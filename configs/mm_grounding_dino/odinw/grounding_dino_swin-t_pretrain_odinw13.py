_base_ = ['../grounding_dino_swin-t_pretrain_obj365.py', '../../_base_/datasets/odinw13.py']

captions = dict(
    CottontailRabbits={'Cottontail-Rabbit': dict(name='rabbit')},
    EgoHands=dict(hand=dict(suffix=' of a person')),
    NorthAmericaMushrooms=dict(CoW=dict(name='flat mushroom'), chanterelle=dict(name='yellow mushroom')),
    Packages=dict(package=dict(prefix='there is a ', suffix=' on the porch')),
)

val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(dataset, caption_prompt=captions[name]) if name in captions else dataset
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
