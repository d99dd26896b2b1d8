"""The data sets and metrics of GLIP's and Grounding DINO's configs are built, of files with one picture each."""

import json
import pickle
from pathlib import Path

import pytest

from mmdet.checks.names import unknown_names
from mmdet.config import load_config
from mmdet.evaluation.evaluator import build_evaluator
from mmdet.registry import DATASETS

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDERS = ('glip', 'grounding_dino', 'mm_grounding_dino')
FILES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for folder in FOLDERS
    for path in (CONFIGS / folder).rglob('*.py')
    if path.stem != 'override_category'
)
NAMES = ('cat', 'dog', 'cow')


@pytest.mark.slow
@pytest.mark.parametrize('name', FILES)
def test_every_name_but_those_of_models_is_known(name):
    findings = [
        finding
        for finding in unknown_names(load_config(CONFIGS / name))
        if finding.level == 'error' and not finding.where.startswith('model')
    ]
    assert not findings, '\n'.join(map(str, findings))


def image(**fields):
    return dict(id=1, file_name='1.jpg', height=60, width=80, coco_url='http://x/val2017/1.jpg') | fields


def coco(names, *, fields=(), **annotation):
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 20, 20], area=400, iscrowd=0) | annotation
    categories = [dict(id=i, name=name, frequency='rcf'[i % 3]) for i, name in enumerate(names, 1)]
    return dict(images=[image(**dict(fields))], annotations=[box], categories=categories)


def content_of(dataset):
    """What the annotation file of a data set may hold."""
    kind = dataset['type']
    captions = dict(caption='a cat', tokens_positive_eval=[[[2, 5]]], dataset_name='refcoco')
    if kind in ('Flickr30kDataset', 'MDETRStyleRefCocoDataset'):
        return json.dumps(coco(['object'], fields=captions, phrase_ids=0))
    if kind == 'ODVGDataset':
        box = dict(bbox=[1, 1, 20, 20], label=0)
        region = dict(bbox=[[1, 1, 20, 20]], phrase='cat', tokens_positive=[[2, 5]])
        data = dict(detection=dict(instances=[box]), grounding=dict(caption='a cat', regions=[region]))
        return json.dumps(dict(filename='1.jpg', height=60, width=80) | data)
    names = (dataset.get('metainfo') or {}).get('classes') or getattr(DATASETS.get(kind), 'METAINFO', {}).get('classes')
    return json.dumps(coco(names or NAMES, fields=captions))


def write(path, content):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def prepare(dataset):
    """Write the files of a data set, however it is wrapped."""
    for inner in (*dataset.get('datasets', ()), *([dataset['dataset']] if 'dataset' in dataset else ())):
        prepare(inner)
    if 'ann_file' not in dataset:
        return
    root = Path(dataset.get('data_root') or '')
    write(root / dataset['ann_file'], content_of(dataset))
    if dataset.get('label_map_file'):
        write(root / dataset['label_map_file'], json.dumps({str(i): name for i, name in enumerate(NAMES)}))
    if dataset['type'] == 'DODDataset':
        tables = dict(
            sentences={i: dict(raw_sent=name) for i, name in enumerate(NAMES, 1)},
            images={1: dict(file_name='1.jpg', height=60, width=80, group_id=0)},
            groups={0: dict(inner_sent_id=[1, 2])},
        )
        for name, table in tables.items():
            write(root / dataset['data_prefix']['anno'] / f'{name}.pkl', pickle.dumps(table))


def prepare_metrics(evaluator):
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator, *evaluator.get('metrics', ())]
    for metric in metrics:
        if metric.get('ann_file'):
            captions = dict(dataset_name='refcoco', caption='a cat')
            write(metric['ann_file'], json.dumps(coco(NAMES, fields=captions)))


QUICK = ('odinw13', 'zeroshot_refexp', 'parallel_dod', '48_17', 'grefcoco', 'swin-t-pretrain_flickr30k')
CHOSEN = [
    'glip/odinw/glip_atss_swin-t_a_fpn_dyhead_pretrain_odinw35.py',
    'glip/lvis/glip_atss_swin-t_a_fpn_dyhead_pretrain_zeroshot_mini-lvis.py',
    'glip/flickr30k/glip_atss_swin-t_c_fpn_dyhead_pretrain_obj365-goldg_zeroshot_flickr30k.py',
    'grounding_dino/odinw/grounding_dino_swin-t_pretrain_odinw13.py',
    'grounding_dino/refcoco/grounding_dino_swin-t_pretrain_zeroshot_refexp.py',
    'grounding_dino/dod/grounding_dino_swin-t_pretrain_zeroshot_parallel_dod.py',
    'mm_grounding_dino/odinw/grounding_dino_swin-t_pretrain_odinw35.py',
    'mm_grounding_dino/lvis/grounding_dino_swin-t_finetune_16xb4_1x_lvis_866_337.py',
    'mm_grounding_dino/coco/grounding_dino_swin-t_finetune_16xb4_1x_coco_48_17.py',
    'mm_grounding_dino/refcoco/grounding_dino_swin-t_finetune_8xb4_5e_grefcoco.py',
    'mm_grounding_dino/flickr30k/grounding_dino_swin-t-pretrain_flickr30k.py',
    'mm_grounding_dino/grounding_dino_swin-l_pretrain_all.py',
    'mm_grounding_dino/grounding_dino_swin-t_pretrain_pseudo-labeling_cat.py',
    'mm_grounding_dino/grounding_dino_swin-t_pretrain_pseudo-labeling_flickr30k.py',
]


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=() if any(part in name for part in QUICK) else pytest.mark.slow) for name in CHOSEN],
)
def test_data_and_metrics_are_built(name, tmp_path, monkeypatch, default_scope):
    cfg = load_config(CONFIGS / name)
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        prepare(dataset)
        built = DATASETS.build(dataset)
        assert len(built) >= 1
        if 'datasets' in dataset:
            assert len(built.datasets) == len(dataset.datasets)
        if split == 'train':
            continue
        evaluator = cfg[f'{split}_evaluator']
        prepare_metrics(evaluator)
        metrics = build_evaluator(evaluator).metrics
        if 'odinw' in name:
            assert len(metrics) == len(built.datasets) == int(name[-5:-3])
