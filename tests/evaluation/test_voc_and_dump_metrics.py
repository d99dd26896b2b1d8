import pytest
import torch
from mmengine.fileio import load

from mmdet.evaluation import DumpDetResults, DumpProposals, VOCMetric


def sample(**pred):
    truth = dict(bboxes=torch.tensor([[10.0, 10, 50, 50], [60, 60, 90, 90]]), labels=torch.tensor([0, 1]))
    none = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    pred = {'bboxes': truth['bboxes'], 'scores': torch.tensor([0.9, 0.8]), 'labels': truth['labels'], **pred}
    return dict(img_id=0, gt_instances=truth, ignored_instances=none, pred_instances=pred)


def evaluate(samples, dataset_type=None, **options):
    metric = VOCMetric(**options)
    metric.dataset_meta = dict(classes=('a', 'b'), dataset_type=dataset_type)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_mean_over_classes_and_thresholds():
    assert evaluate([sample()]) == {'pascal_voc/mAP': 1.0, 'pascal_voc/AP50': 1.0}
    moved = sample(bboxes=torch.tensor([[10.0, 10, 50, 40], [60, 60, 90, 90]]))  # IoU 31 / 41 = 0.756
    assert evaluate([moved], iou_thrs=[0.5, 0.8]) == {
        'pascal_voc/mAP': 0.75,
        'pascal_voc/AP50': 1.0,
        'pascal_voc/AP80': 0.5,
    }
    assert evaluate([moved], iou_thrs=0.754)['pascal_voc/mAP'] == 1.0
    assert evaluate([moved], iou_thrs=0.754, use_legacy_coordinate=False)['pascal_voc/mAP'] == 0.5  # 30 / 40


def test_eleven_points():
    swapped = sample(labels=torch.tensor([0, 0]))
    assert evaluate([swapped], eval_mode='11points')['pascal_voc/mAP'] == pytest.approx(0.5)
    half = [sample(), sample(bboxes=torch.zeros(2, 4))]
    assert evaluate(half)['pascal_voc/mAP'] == pytest.approx(6 / 11), 'eleven points are the default'
    assert evaluate(half, eval_mode='area')['pascal_voc/mAP'] == pytest.approx(0.5)
    with pytest.warns(UserWarning, match='11points'):
        evaluate([sample()], dataset_type='VOC2007', eval_mode='area')


def test_recall():
    numbers = evaluate([sample()], metric='recall', proposal_nums=(1, 10), iou_thrs=[0.5, 0.75])
    assert numbers['pascal_voc/recall@1@0.5'] == 0.5
    assert numbers['pascal_voc/recall@10@0.75'] == numbers['pascal_voc/AR@10'] == 1


def test_nothing_detected():
    nothing = sample(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long))
    assert evaluate([nothing])['pascal_voc/mAP'] == 0


def test_errors():
    with pytest.raises(KeyError, match='segm'):
        VOCMetric(metric='segm')
    with pytest.raises(ValueError, match='10points'):
        VOCMetric(eval_mode='10points')
    with pytest.raises(ValueError, match='LoadAnnotations'):
        evaluate([dict(img_id=0, pred_instances={})])


def test_dumped_results_hold_predictions_alone(tmp_path):
    path = tmp_path / 'results.pkl'
    metric = DumpDetResults(str(path))
    metric.process({}, [sample(masks=torch.ones(2, 8, 8, dtype=torch.bool))])
    metric.evaluate(1)
    (dumped,) = load(path)
    assert sorted(dumped) == ['img_id', 'pred_instances']
    assert [mask['size'] for mask in dumped['pred_instances']['masks']] == [[8, 8], [8, 8]]
    with pytest.raises(ValueError, match='pkl'):
        DumpDetResults(str(tmp_path / 'results.json'))


def test_dumped_proposals_are_the_best_first(tmp_path):
    metric = DumpProposals(str(tmp_path), num_max_proposals=1)
    metric.process({}, [dict(sample(scores=torch.tensor([0.2, 0.8])), img_path='data/train/a.jpg')])
    metric.evaluate(1)
    proposals = load(tmp_path / 'proposals.pkl')
    assert proposals['train/a.jpg'].bboxes.tolist() == [[60, 60, 90, 90]]
    with pytest.raises(ValueError, match='json'):
        DumpProposals(proposals_file='proposals.json')
