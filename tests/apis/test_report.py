"""Reports: what is collected, the numbers in them, the page, comparisons, and that no run fails by one."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.apis import report_page as html
from mmdet.apis.report import best_threshold, confidence_curves, evaluator_of, write_report
from mmdet.apis.report_compare import compare, differences, load_run
from mmdet.apis.report_errors import drawn_errors
from mmdet.apis.report_history import History
from mmdet.apis.report_hook import ReportHook
from mmdet.apis.run_report import RunReport
from mmdet.config import load_config
from mmdet.errors import UserFileError, UserValueError
from mmdet.evaluation.collected import COLUMNS, Collected, average_precision_of, match
from mmdet.evaluation.functional.coco_eval import average_precision
from mmdet.evaluation.metrics.samples import encode_masks
from mmdet.structures import DetDataSample

IOUS = np.linspace(0.5, 0.95, 10)


def collected(dets, gts, pictures=2, classes=('cat', 'dog'), folder='.'):
    """Rows (picture, label, score, box) and (picture, label, box, ignored)."""
    rows = {f'det_{name}': [] for name in ('image', 'label', 'score', 'box')}
    rows |= {f'gt_{name}': [] for name in ('image', 'label', 'box', 'ignore')}
    for image, label, score, box in dets:
        for name, value in zip(('image', 'label', 'score', 'box'), (image, label, score, box)):
            rows[f'det_{name}'].append(value)
    for image, label, box, ignore in gts:
        for name, value in zip(('image', 'label', 'box', 'ignore'), (image, label, box, ignore)):
            rows[f'gt_{name}'].append(value)
    columns = {name: np.asarray(rows[name], dtype=kind).reshape(-1, *shape) for name, (shape, kind) in COLUMNS.items()}
    sizes = np.full((pictures, 2), 100)
    meta = dict(metric='coco/bbox_mAP', score=0.5, metrics={'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_l': -1}, epoch=2)
    return Collected(columns, [f'{folder}/{i}.png' for i in range(pictures)], sizes, list(classes), meta)


def random_run(seed, pictures=30, noise=4.0):
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(0)
    dets, gts = [], []
    for image in range(pictures):
        for label in (0, 1, 1):
            low = world.uniform(0, 50, 2)
            box = np.concatenate([low, low + world.uniform(10, 40, 2)])
            gts.append((image, label, box, world.random() < 0.1))
            for _ in range(2):
                shown = label if rng.random() < 0.8 else 1 - label
                near = box + rng.normal(0, noise, 4)
                near[2:] = np.maximum(near[2:], near[:2] + 1)
                dets.append((image, shown, rng.random(), near))
    return collected(dets, gts, pictures)


A, B = (0, 0, 20, 20), (50, 50, 80, 80)


def test_matches():
    run = collected(
        [(0, 0, 0.9, A), (0, 0, 0.8, A), (0, 1, 0.7, B), (1, 0, 0.6, B)],
        [(0, 0, A, False), (0, 1, B, True), (1, 0, A, False)],
    )
    right, taken = match(run, np.array([0.5]))
    assert right[0].tolist() == [1, 0, -1, 0]  # found, found again, on an ignored one, on nothing
    assert taken[0].tolist() == [0, -1, -1]


def test_ap_is_that_of_coco():
    run = random_run(1)
    ap = average_precision_of(run, match(run, IOUS)[0])
    evaluator = evaluator_of(run)
    for k in range(2):
        assert ap[:, k].mean() == pytest.approx(average_precision(evaluator, category=k), abs=1e-6)
        assert ap[0, k] == pytest.approx(average_precision(evaluator, 0.5, category=k), abs=1e-6)


def test_weights_are_repetitions_of_pictures():
    run = collected([(0, 0, 0.9, A), (1, 0, 0.8, B)], [(0, 0, A, False), (1, 0, A, False)])
    right, _ = match(run, np.array([0.5]))
    assert average_precision_of(run, right, np.array([1.0, 0.0]))[0, 0] == 1
    assert average_precision_of(run, right, np.array([0.0, 1.0]))[0, 0] == 0
    assert average_precision_of(run, right)[0, 0] == pytest.approx(51 / 101)
    assert np.isnan(average_precision_of(run, right)[0, 1])


def test_curves_over_the_score():
    run = collected([(0, 0, 0.9, A), (0, 0, 0.4, B)], [(0, 0, A, False), (1, 0, A, False)])
    precision, recall = confidence_curves(run, match(run, np.array([0.5]))[0][0], np.array([0.0, 0.5, 0.95]))
    assert precision[0, :2].tolist() == [0.5, 1] and np.isnan(precision[0, 2])
    assert recall[0].tolist() == [0.5, 0.5, 0] and np.isnan(recall[1]).all()
    assert best_threshold(np.array([[0.1, 0.6, 0.2], [np.nan] * 3]), np.array([0, 0.5, 1])) == 0.5


def test_files_are_read_as_they_were_written(tmp_path):
    run = random_run(1)
    run.save(tmp_path / 'evaluation.npz')
    again = Collected.load(tmp_path / 'evaluation.npz')
    assert all((again.columns[name] == run.columns[name]).all() for name in COLUMNS)
    assert (again.paths, again.classes, again.meta) == (run.paths, run.classes, run.meta)
    (tmp_path / 'bad.npz').write_bytes(b'PK')
    with pytest.raises(UserFileError, match='damaged'):
        Collected.load(tmp_path / 'bad.npz')
    with pytest.raises(UserFileError, match='does not exist'):
        Collected.load(tmp_path / 'none.npz')


def test_masks_are_kept_and_drawn(tmp_path):
    """Those of objects as they are in the data, of detections where they score enough; each in its colour."""
    run = collected([(0, 0, 0.9, A), (0, 0, 0.8, B)], [(0, 0, (60, 10, 80, 30), False)], pictures=1)
    square = np.zeros((100, 100), bool)
    square[55:75, 55:75] = True
    run.masks = dict(det=[None, *encode_masks(square[None])], gt=[[[60, 10, 80, 10, 80, 30, 60, 30]]])
    for code in run.masks['det'][1:]:
        code['counts'] = code['counts'].decode()
    run.save(tmp_path / 'evaluation.npz')
    again = Collected.load(tmp_path / 'evaluation.npz')
    assert again.masks == run.masks
    again.paths = [str(tmp_path / 'a.png')]
    cv2.imwrite(again.paths[0], np.full((100, 100, 3), 120, np.uint8))
    tiles = drawn_errors(again)
    decoded = {
        name: [cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)[..., ::-1].astype(int) for jpeg, _ in found]
        for name, found in tiles.items()
    }
    without, with_mask = decoded['Surest false alarms']
    (missed,) = decoded['Largest objects not found']
    middle = lambda tile: tile[tile.shape[0] // 2, tile.shape[1] // 2]
    assert np.ptp(middle(without)) < 10
    assert middle(with_mask)[0] > middle(with_mask)[1] + 40 and middle(missed)[1] > middle(missed)[0] + 10


def test_a_run_keeps_the_masks_that_are_drawn():
    found = InstanceData(
        bboxes=torch.tensor([A, B, A], dtype=torch.float32),
        scores=torch.tensor([0.3, 0.9, 0.01]),
        labels=torch.zeros(3, dtype=torch.long),
        masks=torch.stack([torch.eye(8, dtype=torch.bool)] * 3),
    )
    sample = DetDataSample(metainfo=dict(img_id=1, img_path='a.png'), pred_instances=found)
    hook = ReportHook()
    hook.after_val_iter(SimpleNamespace(logger=None), 0, outputs=[sample])
    ((key, _, scores, _, codes),) = hook._found
    assert key == ('1', 'a.png') and scores.tolist() == pytest.approx([0.9, 0.3, 0.01])
    assert codes[0]['size'] == [8, 8] and codes[1] and codes[2] is None


# Comparison ---------------------------------------------------------------------------------------------------------
def test_differences_have_intervals():
    good, bad = random_run(1, noise=1), random_run(2, noise=5)
    rows = {row[0]: row[1:] for row in differences(good, bad, draws=60)}
    first, second, difference, low, high = rows['AP']
    assert first > second and difference == pytest.approx(second - first) and low <= difference <= high < 0
    same = {row[0]: row[1:] for row in differences(good, good, draws=20)}['AP']
    assert same[2:] == (0, 0, 0)
    order = np.random.default_rng(0).permutation(30)  # the same pictures in another order
    place = np.argsort(order)
    columns = dict(good.columns, det_image=place[good.det_image], gt_image=place[good.gt_image])
    moved = Collected(columns, [good.paths[i] for i in order], good.sizes, good.classes)
    assert {row[0]: row[1:] for row in differences(good, moved, draws=20)}['AP'][2:] == pytest.approx((0, 0, 0))
    with pytest.raises(UserValueError, match='different classes'):
        differences(good, Collected(good.columns, good.paths, good.sizes, ['a', 'b']))
    with pytest.raises(UserValueError, match='same pictures'):
        differences(good, random_run(1, pictures=29))


def test_compare_writes_a_page(tmp_path):
    for name, seed in (('a', 1), ('b', 2)):
        (tmp_path / name / 'report').mkdir(parents=True)
        random_run(seed).save(tmp_path / name / 'report' / 'evaluation.npz')
    rows = compare(tmp_path / 'a', tmp_path / 'b', tmp_path / 'out' / 'c.html', draws=10)
    assert [row[0] for row in rows] == ['AP', 'AP50', 'AP75', 'cat', 'dog']
    assert 'beyond luck' in (tmp_path / 'out' / 'c.html').read_text()
    assert load_run(tmp_path / 'a' / 'report').paths
    with pytest.raises(UserFileError, match='train or test with a report first'):
        load_run(tmp_path)


# History and page ---------------------------------------------------------------------------------------------------
@pytest.fixture
def work_dir(tmp_path):
    """A run that was killed in its third epoch and resumed from the end of the second."""
    for name, epochs in (('20260101_000000', (1, 2, 3)), ('20260101_010000', (3, 4))):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        lines = []
        for epoch in epochs:
            loss = 10 - epoch + (5 if name.endswith('00') and epochs[0] == 1 and epoch == 3 else 0)
            lines.append(dict(loss=loss, lr=0.1, epoch=epoch, iter=10 * epoch, step=10 * epoch, time=0.5))
            if not (epochs[0] == 1 and epoch == 3):
                lines.append({'coco/bbox_mAP': epoch / 10, 'step': epoch, 'time': 0.1})
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n{"loss": 1')
    return tmp_path


def test_history_over_resumes(work_dir):
    history = History(work_dir)
    assert history.runs == 2 and history.by_epoch
    assert [row['loss'] for row in history.train] == [9, 8, 7, 6]
    assert [row['coco/bbox_mAP'] for row in history.val] == [0.1, 0.2, 0.3, 0.4]
    history.write_csv(work_dir / 'r.csv')
    with open(work_dir / 'r.csv') as file:
        table = list(csv.DictReader(file))
    assert [row['epoch'] for row in table] == ['1', '2', '3', '4'] and table[2]['loss'] == '7.0'
    assert table[3]['coco/bbox_mAP'] == '0.4'


class Page(HTMLParser):
    """Tags that are open at the end, and addresses of anything outside."""

    def __init__(self, text):
        super().__init__()
        self.open, self.outside, self.headings, self.heading = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ('meta', 'img', 'line', 'rect', 'circle', 'br'):
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in ('src', 'href') and not v.startswith('data:')]
        self.heading = tag == 'h2'

    def handle_endtag(self, tag):
        if tag not in ('line', 'rect', 'circle'):
            assert self.open.pop() == tag
        self.heading = False

    def handle_data(self, data):
        if self.heading:
            self.headings.append(data)


def test_the_page_holds_all_and_needs_nothing(work_dir):
    run = random_run(1)
    run.paths = [str(work_dir / f'{i}.png') for i in range(30)]
    for path in run.paths[:-1]:  # one is gone
        cv2.imwrite(path, np.full((100, 100, 3), 120, np.uint8))
    (work_dir / 'report').mkdir()
    run.save(work_dir / 'report' / 'evaluation.npz')
    cv2.imwrite(str(work_dir / 'report' / 'batch_1.jpg'), np.full((40, 40, 3), 90, np.uint8))
    page = write_report(work_dir)
    text = page.read_text()
    parsed = Page(text)
    assert not parsed.open and not parsed.outside and '<script' not in text
    wanted = ['Result', 'Training', 'Labels', 'Classes', 'Curves', 'Confusions', 'Kinds of errors', 'Calibration']
    wanted += ['Surest false alarms', 'Largest objects not found', 'First batches, as the network saw them', 'Speed']
    assert [name for name in wanted if name not in parsed.headings] == []
    assert text.count('data:image/jpeg') >= 10 and 'join 2 runs' in text and (work_dir / 'report/results.csv').is_file()


def test_what_a_config_changes_is_kept_for_later(tmp_path):
    (tmp_path / 'base.py').write_text('a = 1\nb = 2\n')
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\nb = '<3>'\n")
    out = tmp_path / 'run'
    out.mkdir()
    first = write_report(out, load_config(tmp_path / 'mine.py')).read_text()
    (out / 'mine.py').write_text("a = 1\nb = '<3>'\n")  # as a run writes it, without bases
    for text in (first, write_report(out).read_text()):
        assert '<span class="gone">- b = 2</span>' in text and '&lt;3&gt;' in text and '- a' not in text
        assert 'the whole config' in text


def test_lines_are_svg_of_finite_numbers():
    chart = html.lines('<title>', {'a': ([1, 2, 3], [1, float('nan'), 2]), 'none': ([], [])}, 'x')
    root = ElementTree.fromstring(chart[len('<figure>') : chart.index('</svg>') + 6])
    points = [each.get('points') for each in root.iter('{http://www.w3.org/2000/svg}polyline')]
    assert len(points) == 1 and len(points[0].split()) == 2 and 'nan' not in chart and '&lt;title&gt;' in chart
    assert html.lines('none', {'a': ([1], [float('nan')])}) == ''
    assert 'circle' in html.lines('one', {'a': ([1], [2])})


@pytest.mark.parametrize(
    'low, high, expected', [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [3]), (0, 90, [0, 20, 40, 60, 80])]
)
def test_ticks(low, high, expected):
    assert html.ticks(low, high) == pytest.approx(expected)


def test_no_run_fails_by_its_report(tmp_path, monkeypatch):
    said, hooks = [], []
    runner = SimpleNamespace(
        cfg={},
        work_dir=str(tmp_path / 'none'),
        register_hook=hooks.append,
        logger=SimpleNamespace(info=lambda text, **_: said.append(text)),
        epoch=1,
        iter=5,
        max_epochs=2,
        message_hub=SimpleNamespace(runtime_info={}),
        model=None,
        _val_loop=None,
    )

    def fail(*args, **kwargs):
        raise RuntimeError('broken')

    monkeypatch.setattr('mmdet.apis.report.write_report', fail)
    report = RunReport(runner)
    report.after_training()
    assert 'There is no report: RuntimeError: broken' in said and any(text.startswith('trained') for text in said)
    hook = hooks[0]
    hook.after_val_iter(runner, 0, outputs=[object()])  # which is no sample
    hook.after_val_epoch(runner, dict(mAP=1))
    assert any('The report misses something' in text for text in said)
    runner.cfg = dict(report=False)
    assert not RunReport(runner).wanted and len(hooks) == 1
