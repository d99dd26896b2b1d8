import math

import pytest
import torch
from head_table import build_head, features, samples
from mmengine.structures import InstanceData

from mmdet.models.core import split_by_mixture

LOSSES = [0.9, 1.0, 1.3, 1.35, 2.2, 2.9, 3.0, 3.6]
# What scikit-learn 1.9 gives for a mixture of two components with the same start.
OWN_VARIANCE = [-0.72748, -0.21776, -0.32028, -0.57382, -1.95334, -0.92178, -0.9331, -1.83414]
ONE_VARIANCE = [-0.91894, -0.75839, -0.65482, -0.69264, -2.37377, -0.78004, -0.76293, -1.98346]


@pytest.mark.parametrize(
    'kind, expected',
    [('diag', OWN_VARIANCE), ('full', OWN_VARIANCE), ('spherical', OWN_VARIANCE), ('tied', ONE_VARIANCE)],
)
def test_mixture(kind, expected):
    values = torch.tensor([[*LOSSES, math.inf], [1.0, 1.0, 1.1, 7.0, 7.2] + [math.inf] * 4])
    lower, scores = split_by_mixture(values, values.isfinite(), kind)
    assert lower[0, :8].tolist() == [True] * 4 + [False] * 4
    assert scores[0, :8].tolist() == pytest.approx(expected, abs=1e-5)
    assert lower[1, :5].tolist() == [True] * 3 + [False] * 2
    alone = split_by_mixture(values[:1, :8], values[:1, :8].isfinite(), kind)
    torch.testing.assert_close(alone[1], scores[:1, :8])


def test_equal_values_make_no_mixture_fail():
    lower, scores = split_by_mixture(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool))
    assert lower.all()
    assert scores.isfinite().all()


def test_positives_end_at_the_likeliest_of_the_lower_component(default_scope):
    head = build_head('PAAHead')
    losses = torch.tensor([[3.0, math.inf, 1.3, 0.9, 2.9, 1.0, 3.6, 1.35, 2.2], [5.0] + [math.inf] * 8])
    # In ascending order the likeliest is the second, 1.0; one candidate makes no mixture.
    assert head._keep(losses)[0].nonzero().flatten().tolist() == [3, 5]
    assert not head._keep(losses)[1].any()


def test_voting(default_scope):
    head = build_head('PAAHead')
    candidates = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 10], [50, 50, 60, 60]]),
        scores=torch.tensor([0.9, 0.6, 0.8, 0.7]),
        labels=torch.tensor([1, 1, 2, 1]),
    )
    scores = torch.zeros(4, head.num_classes).scatter(1, candidates.labels[:, None], candidates.scores[:, None])
    detections = torch.cat([candidates.bboxes, candidates.scores[:, None]], 1)[[0, 3]]
    voted, labels = head.score_voting(detections, candidates.labels[[0, 3]], candidates.bboxes, scores, 0.05)
    assert labels.tolist() == [1, 1] and voted[:, 4].tolist() == detections[:, 4].tolist()
    voted = voted[:, :4]
    share = math.exp(-((1 / 6) ** 2) / 0.025) * 0.6
    bottom = (0.9 * 10 + share * 12) / (0.9 + share)
    torch.testing.assert_close(voted, torch.tensor([[0, 0, 10, bottom], [50, 50, 60, 60]]))


def test_only_with_nms(default_scope):
    head = build_head('PAAHead').eval()
    outs = head(features(1))
    with pytest.raises(ValueError, match='with NMS only'):
        head.predict_by_feat(*outs, batch_img_metas=[samples('one')[0].metainfo], with_nms=False)
