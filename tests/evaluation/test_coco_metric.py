import json

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet.evaluation import CocoMetric
from mmdet.evaluation.functional.coco_eval import evaluate_coco, load_coco, summarize

CLASSES = ('cat', 'dog', 'owl')


def scene(seed, images=6, crowd=True, masks=False):
    """A random COCO dataset and noisy detections of it as data samples."""
    rng = np.random.default_rng(seed)
    dataset = dict(images=[], annotations=[], categories=[dict(id=7 * (i + 1), name=n) for i, n in enumerate(CLASSES)])
    samples = []
    for i in range(images):
        img_id = 100 + 3 * i
        dataset['images'].append(dict(id=img_id, width=300, height=240, file_name=f'{i}.jpg'))
        count = 0 if i == 2 else int(rng.integers(1, 12))
        corner = rng.uniform(0, 180, (count, 2))
        size = np.exp(rng.uniform(np.log(6), np.log(150), (count, 2)))
        boxes = np.concatenate([corner, np.minimum(corner + size, [300, 240])], 1)
        labels = rng.integers(0, 3, count)
        for box, label in zip(boxes, labels, strict=True):
            xywh = [*box[:2], *(box[2:] - box[:2])]
            entry = dict(
                id=len(dataset['annotations']) + 1,
                image_id=img_id,
                bbox=[float(v) for v in xywh],
                area=float(xywh[2] * xywh[3]),
                iscrowd=int(crowd and rng.random() < 0.2),
                category_id=7 * (int(label) + 1),
            )
            x1, y1, x2, y2 = box.tolist()
            polygon = [[x1, y1 + 3, x1 + 2, y1, x2, y1, x2, y2, (x1 + x2) / 2, y2 - 1.5, x1, y2]]
            entry['segmentation'] = _rle(box) if entry['iscrowd'] or entry['id'] % 2 else polygon
            dataset['annotations'].append(entry)
        keep = rng.random(count) < 0.8
        found = boxes[keep] + rng.normal(0, 4, (int(keep.sum()), 4))
        noise = rng.uniform(0, 120, (5, 2))
        found = np.concatenate([found, found[:2] + 1, np.concatenate([noise, noise + rng.uniform(5, 90, (5, 2))], 1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        which = np.concatenate([labels[keep], labels[keep][:2], rng.integers(0, 3, 5)])
        pred = dict(
            bboxes=torch.tensor(found, dtype=torch.float32),
            scores=torch.tensor(rng.random(len(found)), dtype=torch.float32),
            labels=torch.tensor(which),
        )
        if masks:
            pred['masks'] = torch.stack([_bitmap(box) for box in found])
        samples.append(dict(img_id=img_id, ori_shape=(240, 300), pred_instances=pred))
    return dataset, samples


def _bitmap(box):
    x1, y1, x2, y2 = (max(int(v), 0) for v in box)
    mask = torch.zeros(240, 300, dtype=torch.bool)
    mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
    return mask


def _rle(box):
    code = rle.encode(np.asfortranarray(_bitmap(box).numpy().astype(np.uint8)))
    return dict(size=code['size'], counts=code['counts'].decode())


def write(path, dataset):
    path.write_text(json.dumps(dataset))
    return str(path)


def run(metric, samples, size=None):
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return metric.evaluate(size or len(samples))


def reference(path, samples, iou_type='bbox', max_dets=(100, 300, 1000), use_cats=1):
    truth = COCO(path)
    detections = []
    for sample in samples:
        pred = sample['pred_instances']
        for i, (box, score, label) in enumerate(zip(pred['bboxes'], pred['scores'], pred['labels'], strict=True)):
            x1, y1, x2, y2 = box.tolist()
            entry = dict(image_id=sample['img_id'], score=score.item(), category_id=7 * (label.item() + 1))
            if iou_type == 'bbox':
                entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            else:
                mask = rle.encode(np.asfortranarray(pred['masks'][i].numpy().astype(np.uint8)))
                entry['segmentation'] = dict(size=mask['size'], counts=mask['counts'].decode())
            detections.append(entry)
    evaluator = COCOeval(truth, truth.loadRes(detections), iou_type)
    evaluator.params.maxDets = list(max_dets)
    evaluator.params.useCats = use_cats
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


@pytest.mark.parametrize('faster', [False, True])
@pytest.mark.parametrize('metric', ['bbox', 'segm', 'proposal'])
def test_numbers_are_those_of_pycocotools(tmp_path, metric, faster):
    dataset, samples = scene(0, masks=metric == 'segm')
    path = write(tmp_path / 'ann.json', dataset)
    numbers = run(CocoMetric(path, metric, use_faster_coco_eval=faster), samples)
    stats = reference(path, samples, 'segm' if metric == 'segm' else 'bbox', use_cats=int(metric != 'proposal')).stats
    if metric == 'proposal':
        names = ['AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000']
        expected = stats[6:]
    else:
        names = [f'{metric}_{item}' for item in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')]
        expected = stats[:6]
    assert list(numbers) == [f'coco/{name}' for name in names]
    assert 0.1 < expected[0] < 0.95
    np.testing.assert_allclose(list(numbers.values()), expected, atol=1e-9)


@pytest.mark.parametrize('iou_thrs, nums', [([0.5], (1, 10, 100)), ([0.3, 0.75], (5, 20, 50))])
def test_other_thresholds_and_numbers_of_detections(tmp_path, iou_thrs, nums):
    dataset, samples = scene(1)
    path = write(tmp_path / 'ann.json', dataset)
    numbers = run(CocoMetric(path, iou_thrs=iou_thrs, proposal_nums=nums), samples)
    evaluator = reference(path, samples, max_dets=nums)
    precision = evaluator.eval['precision'][[i for i, t in enumerate(evaluator.params.iouThrs) if t in iou_thrs]]
    if iou_thrs == [0.5]:
        assert numbers['coco/bbox_mAP'] == pytest.approx(precision[..., 0, -1].mean(), abs=1e-9)
    else:
        assert numbers['coco/bbox_mAP_50'] == -1
        assert numbers['coco/bbox_mAP'] > 0


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
@pytest.mark.parametrize('case', ['random', 'crowd', 'ignore', 'no detections', 'agnostic'])
def test_both_backends_give_equal_numbers(tmp_path, case, iou_type):
    for seed in range(4):
        dataset, samples = scene(seed, images=8, crowd=case != 'random', masks=iou_type == 'segm')
        if case == 'ignore':  # by size, by flag, and categories or images left out
            for annotation in dataset['annotations'][::4]:
                annotation['ignore'] = 1
            for annotation in dataset['annotations'][::5]:
                annotation['area'] = 10.0
        path = write(tmp_path / 'ann.json', dataset)
        metric = CocoMetric(path, iou_type)
        metric.dataset_meta = dict(classes=CLASSES)
        metric.process({}, samples if case != 'no detections' else [])
        metric._index()
        detections = metric._detections([pred for _, pred in metric.results], iou_type)
        if iou_type == 'segm':
            detections = [{k: v for k, v in entry.items() if k != 'bbox'} for entry in detections]
        both = []
        for faster in (False, True):
            evaluator = evaluate_coco(
                load_coco(path, faster),
                [dict(entry) for entry in detections],
                iou_type,
                cat_ids=[7, 14] if case == 'ignore' else None,
                img_ids=[100, 103, 106] if case == 'ignore' else None,
                max_dets=(3, 10, 100),
                use_cats=case != 'agnostic',
                faster=faster,
            )
            both.append((summarize(evaluator), evaluator.eval['precision'], evaluator.eval['scores']))
        assert both[0][0] == pytest.approx(both[1][0], abs=1e-9)
        np.testing.assert_allclose(both[0][1], both[1][1], atol=1e-9)
        np.testing.assert_allclose(both[0][2], both[1][2], atol=1e-9)


def test_a_recall_is_that_of_the_number_in_its_name(tmp_path):
    dataset, samples = scene(1)
    path = write(tmp_path / 'ann.json', dataset)
    names = ['AR@1', 'AR@10', 'AR@100', 'AR_l@100']
    numbers = run(CocoMetric(path, proposal_nums=(1, 10, 100), metric_items=names), samples)
    stats = reference(path, samples, max_dets=(1, 10, 100)).stats
    expected = {f'coco/bbox_{name}': stats[i] for name, i in zip(names, (6, 7, 8, 11), strict=True)}
    assert numbers == pytest.approx(expected, abs=1e-9) and stats[6] < stats[8]
    other = CocoMetric(path, proposal_nums=(1, 10, 100), metric_items=['AR@1000'])
    with pytest.raises(KeyError, match=r"'AR@1000' is not supported.*proposal_nums=\(1, 10, 100\) decide"):
        run(other, samples)


def test_ground_truth_from_the_samples_equals_the_file(tmp_path):
    dataset, samples = scene(2)
    from_file = run(CocoMetric(write(tmp_path / 'ann.json', dataset)), samples)
    for sample in samples:
        sample['instances'] = []
        for ann in dataset['annotations']:
            if ann['image_id'] == sample['img_id']:
                x, y, w, h = ann['bbox']
                label = ann['category_id'] // 7 - 1
                sample['instances'].append(
                    dict(bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=ann['iscrowd'])
                )
    assert run(CocoMetric(), samples) == pytest.approx(from_file, abs=1e-9)
    for sample in samples:
        instances = sample.pop('instances')
        for key, flag in (('gt_instances', 0), ('ignored_instances', 1)):
            kept = [ann for ann in instances if ann['ignore_flag'] == flag]
            sample[key] = dict(
                bboxes=torch.tensor([ann['bbox'] for ann in kept]).reshape(-1, 4),
                labels=torch.tensor([ann['bbox_label'] for ann in kept], dtype=torch.long),
            )
    assert run(CocoMetric(), samples) == pytest.approx(from_file, abs=1e-3)  # float32 boxes
    with pytest.raises(ValueError, match='LoadAnnotations'):
        run(CocoMetric(), scene(2)[1])


def test_one_box():
    def evaluate(box, **options):
        truth = dict(bbox=[10.0, 10, 50, 50], bbox_label=0)
        pred = dict(bboxes=torch.tensor([box]), scores=torch.tensor([0.9]), labels=torch.tensor([0]))
        sample = dict(img_id=1, ori_shape=(60, 60), instances=[truth], pred_instances=pred)
        return run(CocoMetric(**options), [sample])

    assert evaluate([10.0, 10, 50, 50], metric_items=['mAP', 'AR@100']) == {
        'coco/bbox_mAP': 1.0,
        'coco/bbox_AR@100': 1.0,
    }
    assert evaluate([10.0, 10, 50, 41.2], metric_items=['mAP']) == {'coco/bbox_mAP': 0.6}  # IoU 0.78
    assert evaluate([10.0, 10, 50, 41.2], metric='proposal_fast') == {
        f'coco/AR@{n}': pytest.approx(0.6) for n in (100, 300, 1000)
    }


def test_nothing_detected_gives_zeros_and_one_message(tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(MMLogger, 'error', lambda self, message: messages.append(message))
    dataset, samples = scene(3, masks=True)
    for sample in samples:
        pred = sample['pred_instances']
        sample['pred_instances'] = {key: value[:0] for key, value in pred.items()}
    metric = CocoMetric(write(tmp_path / 'ann.json', dataset), ['bbox', 'segm', 'proposal', 'proposal_fast'])
    numbers = run(metric, samples)
    assert numbers['coco/bbox_mAP'] == numbers['coco/segm_mAP'] == numbers['coco/AR@100'] == 0
    assert len(messages) == 1 and 'no detections at all for 6 images' in messages[0]


def test_per_class_numbers(tmp_path):
    dataset, samples = scene(4)
    path = write(tmp_path / 'ann.json', dataset)
    numbers = run(CocoMetric(path, classwise=True), samples)
    precision = reference(path, samples).eval['precision'][:, :, :, 0, -1]
    for k, name in enumerate(CLASSES):
        assert numbers[f'coco/{name}_precision'] == pytest.approx(precision[:, :, k].mean(), abs=1e-9)


def test_class_score_thresholds(tmp_path):
    # score 0.9 right, 0.8 wrong, 0.7 right, 0.2 wrong; 3 objects. F: 0.50 0.40 0.67 0.57, hence 0.7
    truths = [dict(bbox=[20.0 * i, 0, 20 * i + 10, 10], bbox_label=0) for i in range(3)]
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 30, 10, 40], [20, 0, 30, 10], [0, 50, 10, 60]])
    pred = dict(bboxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7, 0.2]), labels=torch.zeros(4, dtype=torch.long))
    sample = dict(img_id=0, ori_shape=(60, 60), instances=truths, pred_instances=pred)
    run(CocoMetric(class_thresholds=str(tmp_path / 'work' / 'class_thresholds.json')), [sample])
    table = json.loads((tmp_path / 'work' / 'class_thresholds.json').read_text())
    assert list(table) == ['cat']  # dog and owl have no ground truth
    assert table['cat']['threshold'] == pytest.approx(0.7, abs=1e-6)
    assert np.float32(0.7) > table['cat']['threshold']  # the detection itself stays
    assert table['cat']['precision'] == pytest.approx(2 / 3)
    assert table['cat']['recall'] == pytest.approx(2 / 3, abs=0.01)  # the curve has 101 recall points
    assert table['cat']['f_measure'] == pytest.approx(2 / 3, abs=0.01)
    run(CocoMetric(class_thresholds=True, outfile_prefix=str(tmp_path / 'out')), [sample])
    assert json.loads((tmp_path / 'class_thresholds.json').read_text()) == table


def test_result_files(tmp_path):
    dataset, samples = scene(5, masks=True)
    path = write(tmp_path / 'ann.json', dataset)
    metric = CocoMetric(path, ['bbox', 'segm'], format_only=True, outfile_prefix=str(tmp_path / 'res'))
    assert run(metric, samples) == {}
    for kind in ('bbox', 'segm'):
        truth = COCO(path)
        assert len(truth.loadRes(str(tmp_path / f'res.{kind}.json')).anns) == sum(
            len(sample['pred_instances']['scores']) for sample in samples
        )


def test_masks_of_a_mask_score_head_use_the_mask_score(tmp_path):
    _, samples = scene(6, images=1, masks=True)
    samples[0]['pred_instances']['mask_scores'] = samples[0]['pred_instances']['scores'] / 2
    metric = CocoMetric(write(tmp_path / 'ann.json', scene(6, images=1)[0]), 'segm')
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    metric._index()
    scores = [entry['score'] for entry in metric._detections([metric.results[0][1]], 'segm')]
    assert scores == pytest.approx((samples[0]['pred_instances']['scores'] / 2).tolist())


def test_errors_name_what_is_wrong(tmp_path):
    dataset, samples = scene(7)
    path = write(tmp_path / 'ann.json', dataset)
    with pytest.raises(KeyError, match=r'metric should be one of.*bboxes'):
        CocoMetric(path, 'bboxes')
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        CocoMetric(str(tmp_path / 'none.json'))
    with pytest.raises(ValueError, match='not valid JSON'):
        (tmp_path / 'bad.json').write_text('{')
        CocoMetric(str(tmp_path / 'bad.json'))
    with pytest.raises(KeyError, match='categories'):
        CocoMetric(write(tmp_path / 'lacks.json', dict(images=[], annotations=[])))
    with pytest.raises(ValueError, match='outfile_prefix'):
        CocoMetric(path, format_only=True)
    with pytest.raises(KeyError, match="metric='segm' needs masks"):
        run(CocoMetric(path, 'segm'), samples)
    with pytest.raises(KeyError, match="annotation 1 of image 100 has no 'segmentation'"):
        boxes_only = [{k: v for k, v in entry.items() if k != 'segmentation'} for entry in dataset['annotations']]
        only = write(tmp_path / 'boxes.json', dict(dataset, annotations=boxes_only))
        run(CocoMetric(only, 'segm'), scene(7, masks=True)[1])
    with pytest.raises(KeyError, match='mAP_10'):
        run(CocoMetric(path, metric_items=['mAP_10']), samples)
    with pytest.raises(ValueError, match='num_classes'):
        wrong = dict(samples[0]['pred_instances'], labels=samples[0]['pred_instances']['labels'] + 3)
        run(CocoMetric(path), [dict(samples[0], pred_instances=wrong)])
    with pytest.raises(ValueError, match='image ids 999'):
        run(CocoMetric(path), [dict(samples[0], img_id=999)])
    with pytest.raises(ValueError, match=r"no category 'dogs'.*dog"):
        metric = CocoMetric(path)
        metric.dataset_meta = dict(classes=('dogs', 'cats'))
        metric.process({}, samples)
        metric.evaluate(len(samples))


def test_labels_follow_class_names(tmp_path):
    dataset, samples = scene(8)
    path = write(tmp_path / 'ann.json', dataset)
    expected = run(CocoMetric(path, classwise=True), samples)
    order = torch.tensor([1, 3, 0])  # cat, dog, owl are labels 1, 3, 0 of four classes, one unknown to the file
    for sample in samples:
        pred = sample['pred_instances']
        pred['labels'] = order[pred['labels']]
    unknown = dict(samples[0]['pred_instances'], labels=samples[0]['pred_instances']['labels'] * 0 + 2)
    metric = CocoMetric(path, classwise=True)
    metric.dataset_meta = dict(classes=('owl', 'cat', 'ibis', 'dog'))
    metric.process({}, [*samples, dict(samples[0], pred_instances=unknown)])
    assert metric.evaluate(len(samples) + 1) == expected
    dataset['categories'].append(dict(id=99, name='cat'))
    for annotation in dataset['annotations'][::2]:
        if annotation['category_id'] == 7:
            annotation['category_id'] = 99
    metric = CocoMetric(write(tmp_path / 'twice.json', dataset), classwise=True)
    metric.dataset_meta = dict(classes=('owl', 'cat', 'ibis', 'dog'))
    metric.process({}, samples)
    assert metric.evaluate(len(samples)) == expected


@pytest.mark.parametrize('faster', [False, True])
def test_annotation_id_0_counts_as_any_other(tmp_path, faster):
    dataset, samples = scene(0)
    expected = run(CocoMetric(write(tmp_path / 'ann.json', dataset), use_faster_coco_eval=faster), samples)
    for annotation in dataset['annotations']:
        annotation['id'] -= 1
    assert run(CocoMetric(write(tmp_path / 'ann.json', dataset), use_faster_coco_eval=faster), samples) == expected


def test_thresholds_stay_the_list_that_was_given():
    assert CocoMetric(iou_thrs=[0.5, 0.6]).iou_thrs == [0.5, 0.6]
    assert CocoMetric(iou_thrs=0.5).iou_thrs == [0.5]
    assert np.allclose(CocoMetric().iou_thrs, np.arange(0.5, 1, 0.05))


def one_of(tmp_path, scores, dtype=torch.float32, **options):
    """A metric that was given one picture with these scores."""
    truth = dict(
        images=[dict(id=1, width=9, height=9, file_name='a.jpg')],
        categories=[dict(id=1, name='cat')],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 8, 8], area=64, iscrowd=0)],
    )
    if options.pop('of_test_set', False):
        del truth['annotations']
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth))
    metric = CocoMetric(ann_file=str(path), **options)
    metric.dataset_meta = dict(classes=('cat',))
    boxes = torch.tensor([[0.0, 0, 8, 8]] * len(scores), dtype=dtype)
    pred = dict(bboxes=boxes, scores=torch.tensor(scores, dtype=dtype), labels=torch.zeros(len(scores), dtype=int))
    metric.process({}, [dict(img_id=1, ori_shape=(9, 9), pred_instances=pred)])
    return metric


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_detections_of_any_precision(tmp_path, dtype):
    assert one_of(tmp_path, [0.5], dtype).evaluate(1)['coco/bbox_mAP'] == 1


@pytest.mark.parametrize('score', [float('nan'), float('inf')])
def test_detections_that_no_backend_can_sort(tmp_path, score):
    with pytest.raises(ValueError, match=f'image 1: scores of detection 1 are {score}'):
        one_of(tmp_path, [0.5, score])


def test_pictures_without_ground_truth(tmp_path):
    metric = one_of(tmp_path, [0.5], of_test_set=True, format_only=True, outfile_prefix=str(tmp_path / 'found'))
    assert metric.evaluate(1) == {}
    assert [entry['score'] for entry in json.loads((tmp_path / 'found.bbox.json').read_text())] == [0.5]
    with pytest.raises(KeyError, match='format_only=True writes results'):
        one_of(tmp_path, [0.5], of_test_set=True)


def test_names_of_classes_that_nobody_gave(tmp_path):
    metric = one_of(tmp_path, [0.5])
    metric.dataset_meta = None
    with pytest.raises(ValueError, match='does not know the names of the classes'):
        metric.evaluate(1)
