import sys
from pathlib import Path

import parity_cases
import pytest
import torch

DATA = Path(__file__).parents[1] / 'data' / 'parity'
CASES = sorted(path.name for path in DATA.glob('*.json.gz'))

# Of the cases beside the checkout, some of each family; all of them take long.
BESIDE = [
    'retinanet__retinanet_r50_fpn_1x_coco',
    'atss__atss_r50_fpn_1x_coco',
    'gfl__gfl_r50_fpn_1x_coco',
    'paa__paa_r50_fpn_1x_coco',
    'autoassign__autoassign_r50-caffe_fpn_1x_coco',
    'fsaf__fsaf_r50_fpn_1x_coco',
    'ghm__retinanet_r50_fpn_ghm-1x_coco',
]


@pytest.mark.parametrize('name', CASES)
def test_agrees_with_the_reference(name, default_scope):
    case = parity_cases.load(DATA / name)
    model = parity_cases.build(case)
    state = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert state == dict(case['state'])

    parity_cases.fill_weights(model, case['seed'], case.get('scale'))
    losses = parity_cases.losses_of(model, case)
    assert losses == pytest.approx(case['losses'], rel=5e-4, abs=1e-4)

    if case['predictions'] is None:
        return
    parity_cases.fill_weights(model, case['seed'], case.get('scale'))  # training moved the statistics of norms
    for found, want in zip(parity_cases.predictions_of(model, case), case['predictions']):
        assert len(found) == want['num']
        scores = torch.tensor(want['scores'])
        torch.testing.assert_close(found.scores[: len(scores)], scores, atol=1e-3, rtol=0)
        for score, label, box in zip(scores[:10], want['labels'], want['bboxes']):
            # Detections of nearly equal scores may change places.
            near = (found.bboxes - torch.tensor(box)).abs().amax(1) < 0.05 + 1e-3 * max(box)
            assert (near & (found.labels == label) & ((found.scores - score).abs() < 2e-3)).any(), (label, box)


@pytest.mark.slow
@pytest.mark.parametrize('name', BESIDE)
def test_agrees_with_the_cases_beside_the_checkout(name, shared_dir, default_scope, monkeypatch):
    monkeypatch.syspath_prepend(shared_dir / 'parity')
    import parity

    try:
        assert parity.check_case(parity.load_case(shared_dir / 'parity' / 'cases' / f'{name}.json.gz')) == ('ok', '')
    finally:
        sys.modules.pop('parity')
