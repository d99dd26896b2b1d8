import pytest
import torch

from mmdet.registry import TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')

ANCHORS = dict(type='AnchorGenerator', strides=[8, 16], ratios=[0.5, 1.0], scales=[4, 8])
GENERATORS = {
    'anchors': ANCHORS,
    'anchors of octaves': dict(
        type='AnchorGenerator', strides=[8, 16], ratios=[1.0], octave_base_scale=4, scales_per_octave=3
    ),
    'unequal strides': dict(ANCHORS, strides=[(8, 4), (16, 8)]),
    'half a cell off': dict(ANCHORS, center_offset=0.5),
    'ssd': dict(
        type='SSDAnchorGenerator', strides=[8, 16], ratios=([2], [2, 3]), min_sizes=[10, 20], max_sizes=[20, 40]
    ),
    'legacy': dict(ANCHORS, type='LegacyAnchorGenerator', center_offset=0.5),
    'points': dict(type='MlvlPointGenerator', strides=[8, 16]),
    'corners': dict(type='MlvlPointGenerator', strides=[8, (16, 8)], offset=0),
}
SIZES = [(3, 5), (2, 3)]


def build(name):
    return TASK_UTILS.build(GENERATORS[name])


@pytest.mark.parametrize(
    'cfg, expected',
    [
        (dict(ratios=[1.0], scales=[1.0]), [[-4, -4, 4, 4], [4, -4, 12, 4], [-4, 4, 4, 12], [4, 4, 12, 12]]),
        (dict(ratios=[4.0], scales=[1.0]), [[-2, -8, 2, 8], [6, -8, 10, 8], [-2, 0, 2, 16], [6, 0, 10, 16]]),
        (
            dict(ratios=[1.0], scales=[1.0], center_offset=0.5),
            [[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]],
        ),
    ],
)
def test_grid(cfg, expected):
    generator = TASK_UTILS.build(dict(type='AnchorGenerator', strides=[8], **cfg))
    assert generator.grid_priors([(2, 2)], device='cpu')[0].tolist() == expected


def test_anchors_of_one_location():
    base = build('anchors').base_anchors[0]  # scales run fastest
    sides = (base[:, 2:] - base[:, :2]).prod(1).sqrt()
    assert sides.tolist() == pytest.approx([32, 64, 32, 64])
    assert ((base[:, 3] - base[:, 1]) / (base[:, 2] - base[:, 0])).tolist() == pytest.approx([0.5, 0.5, 1, 1])
    minor = TASK_UTILS.build(dict(ANCHORS, scale_major=False)).base_anchors[0]
    torch.testing.assert_close(minor, base[[0, 2, 1, 3]])
    octaves = build('anchors of octaves').base_anchors[0]
    assert (octaves[:, 2] - octaves[:, 0]).tolist() == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)])


def test_layout_of_ssd300():
    generator = TASK_UTILS.build(
        dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            basesize_ratio_range=(0.15, 0.9),
            strides=[8, 16, 32, 64, 100, 300],
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        )
    )
    assert generator.num_base_priors == [4, 6, 6, 6, 4, 4]
    assert list(generator.min_sizes) == [21, 45, 99, 153, 207, 261]
    assert list(generator.max_sizes) == [45, 99, 153, 207, 261, 315]
    sizes = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    assert sum(map(len, generator.grid_priors(sizes, device='cpu'))) == 8732  # SSD, Sec. 2.2
    assert generator.base_anchors[0][0].tolist() == [4 - 10.5, 4 - 10.5, 4 + 10.5, 4 + 10.5]


def test_points():
    assert build('points').grid_priors([(1, 2), (1, 1)], device='cpu')[0].tolist() == [[4, 4], [12, 4]]
    assert build('corners').grid_priors([(1, 1), (2, 2)], device='cpu')[1].tolist() == [
        [0, 0],
        [16, 0],
        [0, 8],
        [16, 8],
    ]
    with_stride = build('corners').grid_priors(SIZES, device='cpu', with_stride=True)[1]
    assert with_stride[-1].tolist() == [32, 8, 16, 8]


@pytest.mark.parametrize('name', GENERATORS)
def test_some_of_a_grid(name):
    generator = build(name)
    for i, level in enumerate(generator.grid_priors(SIZES, device='cpu')):
        index = torch.tensor([0, len(level) - 1, len(level) // 2, 3])
        found = generator.sparse_priors(index, SIZES[i], i, device='cpu')
        assert torch.equal(found, level[index])


@pytest.mark.parametrize('name', GENERATORS)
def test_valid_flags(name):
    generator = build(name)
    flags = generator.valid_flags(SIZES, (16, 24), device='cpu')
    priors = generator.grid_priors(SIZES, device='cpu')
    assert [len(flag) for flag in flags] == [len(level) for level in priors]
    counts = generator.num_base_priors
    for i, (flag, (height, width)) in enumerate(zip(flags, SIZES)):
        stride_x, stride_y = generator.strides[i]
        expected = [
            y * stride_y < 16 and x * stride_x < 24
            for y in range(height)
            for x in range(width)
            for _ in range(counts[i])
        ]
        assert flag.tolist() == expected


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(scales=None), 'either scales or both'),
        (dict(base_sizes=[8]), '2 strides, but 1 base_sizes'),
        (dict(center_offset=2), r'center_offset must be in \[0, 1\], not 2'),
        (dict(centers=[(0, 0)]), '2 strides, but 1 centers'),
    ],
)
def test_wrong_settings_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        TASK_UTILS.build(dict(ANCHORS, **changes))
    with pytest.raises(ValueError, match='2 strides, but 1 feature maps'):
        build('anchors').grid_priors([(2, 2)], device='cpu')
