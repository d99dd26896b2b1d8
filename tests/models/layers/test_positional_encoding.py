import math

import pytest
import torch

from mmdet.models.layers import LearnedPositionalEncoding, SinePositionalEncoding, SinePositionalEncoding3D
from mmdet.models.layers.transformer import coordinate_to_encoding, inverse_sigmoid

PADDED = torch.tensor([[[0, 0, 1], [0, 0, 1], [1, 1, 1]]])


def test_places_count_from_one():
    found = SinePositionalEncoding(2)(torch.zeros(1, 2, 3))
    y, x = torch.tensor([1.0, 2]), torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(found[0, 0], y.sin()[:, None].expand(2, 3))
    torch.testing.assert_close(found[0, 1], y.cos()[:, None].expand(2, 3))
    torch.testing.assert_close(found[0, 2], x.sin().expand(2, 3))


def test_waves_grow_with_the_channel():
    found = SinePositionalEncoding(4, temperature=100)(torch.zeros(1, 1, 1))[0, :, 0, 0]
    expected = [math.sin(1), math.cos(1), math.sin(0.1), math.cos(0.1)]
    torch.testing.assert_close(found, torch.tensor(expected * 2))


def test_the_whole_image_is_one_turn():
    found = SinePositionalEncoding(2, normalize=True, offset=-0.5)(PADDED)
    torch.testing.assert_close(found[0, 2, 0, :2], torch.tensor([0.25, 0.75]).mul(2 * math.pi).sin(), atol=1e-5, rtol=0)


@pytest.mark.parametrize('normalize', [True, False])
def test_a_map_without_padding_needs_no_mask(normalize):
    encoding = SinePositionalEncoding(4, normalize=normalize)
    feat = torch.zeros(2, 3, 4, 5)
    assert torch.equal(encoding(None, input=feat), encoding(torch.zeros(2, 4, 5)))
    with pytest.raises(TypeError, match='mask or an input'):
        encoding(None)


def test_frames_are_added():
    plain, clip = SinePositionalEncoding(2), SinePositionalEncoding3D(2)
    found = clip(torch.zeros(1, 3, 4, 5))
    assert found.shape == (1, 3, 4, 4, 5)
    time = torch.arange(1.0, 4)
    waves = torch.stack([time.sin(), time.cos(), (time / 100).sin(), (time / 100).cos()], 1)
    expected = plain(torch.zeros(1, 4, 5))[:, None] + waves[None, :, :, None, None]
    torch.testing.assert_close(found, expected)


def test_learned_places():
    encoding = LearnedPositionalEncoding(2, 4, 6)
    found = encoding(torch.zeros(2, 3, 5))
    assert found.shape == (2, 4, 3, 5)
    assert torch.equal(found[1, :, 2, 4], torch.cat([encoding.col_embed.weight[4], encoding.row_embed.weight[2]]))


def test_a_scale_that_is_no_number_is_told():
    with pytest.raises(TypeError, match="'wide'"):
        SinePositionalEncoding(2, normalize=True, scale='wide')


def test_boxes_are_encoded_as_places_are():
    encoding = SinePositionalEncoding(4, normalize=True, eps=0)(torch.zeros(1, 4, 5))[0]
    boxes = torch.tensor([[2 / 5, 3 / 4, 0.5, 1.0]])
    found = coordinate_to_encoding(boxes, num_feats=4)
    assert found.shape == (1, 16)
    torch.testing.assert_close(found[0, :8], encoding[:, 2, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(coordinate_to_encoding(boxes[:, :2], num_feats=4), found[:, :8])
    torch.testing.assert_close(found[0, 12:], encoding[:4, 3, 1], atol=1e-5, rtol=0)  # 1.0 is the whole height


def test_logits_stay_finite():
    assert inverse_sigmoid(torch.tensor([0.0, 1.0, 2.0, 0.5]), eps=1e-3)[3] == 0
    assert inverse_sigmoid(torch.tensor([0.0, 1.0])).isfinite().all()
