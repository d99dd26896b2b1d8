import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmdet.evaluation.functional import plot_iou_recall, plot_num_recall, set_recall_param


@pytest.fixture
def drawn(monkeypatch):
    """Plots instead of windows; the last one's line."""
    monkeypatch.setattr(plt, 'show', lambda: None)
    yield lambda: plt.gca().lines[0].get_xydata().tolist()
    plt.close('all')


def test_recall_over_proposals(drawn):
    plot_num_recall(np.array([0.2, 0.5]), [10, 100])
    assert drawn() == [[10, 0.2], [100, 0.5]] and plt.gca().get_xlim() == (0, 100)


def test_recall_over_iou(drawn):
    plot_iou_recall([0.8, 0.3], np.array([0.5, 0.9]))
    assert drawn() == [[0.5, 0.8], [0.9, 0.3], [1, 0]]


def test_parameters_as_arrays():
    nums, thrs = set_recall_param(100, None)
    assert nums.tolist() == [100] and thrs.tolist() == [0.5]
    assert [len(value) for value in set_recall_param((1, 2), [0.5, 0.6, 0.7])] == [2, 3]
