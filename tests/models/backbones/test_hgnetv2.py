"""HGNetV2 is what timm calls so."""

import pytest
import torch

from mmdet.models.backbones import HGNetV2


@pytest.mark.parametrize(
    'arch', ['B0', 'B4', *(pytest.param(f'B{i}', marks=pytest.mark.slow) for i in (1, 2, 3, 5, 6))]
)
def test_the_weights_of_timm_give_its_features(arch):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    want = timm.create_model(f'hgnetv2_{arch.lower()}', features_only=True).eval()
    for name, value in want.named_buffers():
        if name.endswith('running_mean'):
            value.normal_(std=0.1)
    state = {name.replace('stages_', 'stages.'): value for name, value in want.state_dict().items()}
    model = HGNetV2(arch, out_indices=(0, 1, 2, 3), use_lab=any('.lab.' in name for name in state)).eval()
    model.load_state_dict(state)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(image), tuple(want(image)))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [(dict(arch='B7'), 'B0, B1'), (dict(out_indices=(4,)), '0 to 3'), (dict(frozen_stages=5), '-1 to 4')],
)
def test_what_there_is_not_is_refused(kwargs, message):
    with pytest.raises((KeyError, ValueError), match=message):
        HGNetV2(**kwargs)


def test_frozen_stages():
    model = HGNetV2('B0', frozen_stages=2).train()
    frozen = {name.split('.')[0] + name.split('.')[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert {'stages0', 'stages1'} < frozen and 'stages2' not in frozen
    assert not model.stem.training and model.stages[2].training
