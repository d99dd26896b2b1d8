"""Weights of `transformers`' Grounding DINO and MM-Grounding DINO in ours: the same names, scores and boxes."""

import pytest
import torch

from mmdet.config import load_config
from mmdet.engine.weights import load_weights
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils.checkpoint import read_checkpoint

transformers = pytest.importorskip('transformers', reason='transformers, with whose models ours are compared')
pytestmark = pytest.mark.usefixtures('default_scope')

CONFIGS = {
    'GroundingDino': 'configs/grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py',
    'MMGroundingDino': 'configs/mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365.py',
}
SMALL = dict(num_feats=32, feedforward_channels=48, num_layers=2, out_channels=64, num_queries=12, num_cp=0)
SHAPES = [(96, 80), (72, 128)]
TEXTS = [['cat', 'remote control'], ['dog']]


def shrunk(part, bert):
    """A published config with few channels and layers."""
    if isinstance(part, dict):
        changed = {key: SMALL.get(key, shrunk(value, bert)) for key, value in part.items()}
        if part.get('type') == 'BertModel':
            changed['name'] = bert
        elif 'embed_dims' in changed:
            changed['embed_dims'] = 64
        return changed
    return part


def ours(kind, bert):
    cfg = shrunk(load_config(CONFIGS[kind]).model.to_dict(), bert)
    cfg['backbone'].update(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, init_cfg=None)
    cfg['neck'].update(in_channels=[32, 64, 128])
    cfg['encoder']['fusion_layer_cfg'].update(v_dim=64, l_dim=64, embed_dim=24)
    cfg['encoder']['text_layer_cfg']['ffn_cfg']['feedforward_channels'] = 24
    cfg['bbox_head'].update(embed_dims=64)
    return MODELS.build(cfg).eval()


def theirs(kind, bert):
    swin = dict(embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4])
    sizes = dict(d_model=64, encoder_layers=2, decoder_layers=2, num_queries=12)
    widths = dict(encoder_ffn_dim=48, decoder_ffn_dim=48, encoder_attention_heads=8, decoder_attention_heads=8)
    config = getattr(transformers, f'{kind}Config')(
        backbone_config=transformers.SwinConfig(**swin),
        text_config=transformers.BertConfig.from_pretrained(bert),
        **sizes,
        **widths,
    )
    model = getattr(transformers, f'{kind}ForObjectDetection')(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise / value[0].numel() ** 0.5 if value.dim() > 1 else value + noise * 0.1)
    return model


def batch():
    """Two padded images and what is looked for in them, as we take them; two captions of different lengths."""
    generator = torch.Generator().manual_seed(1)
    images, inside, samples = torch.zeros(2, 3, 96, 128), torch.zeros(2, 96, 128).long(), []
    for image, mask, (height, width), text in zip(images, inside, SHAPES, TEXTS):
        image[:, :height, :width] = torch.randn(3, height, width, generator=generator)
        mask[:height, :width] = 1
        meta = dict(img_shape=(height, width), batch_input_shape=(96, 128), scale_factor=(1.0, 1.0))
        samples.append(DetDataSample(metainfo=dict(meta, text=text, custom_entities=True)))
    return images, inside, samples


@pytest.mark.parametrize('kind', CONFIGS)
def test_scores_and_boxes(kind, tiny_bert, tmp_path):
    reference, model = theirs(kind, tiny_bert), ours(kind, tiny_bert)
    reference.save_pretrained(tmp_path)
    report = load_weights(model, read_checkpoint(tmp_path))
    lost = {name for name in report.missing if 'pooler' not in name}  # which nothing reads
    assert lost == {'dn_query_generator.label_embedding.weight'} and not report.wrong_shape, report
    images, inside, samples = batch()
    tokens = model.language_model.tokenizer(['cat. remote control. ', 'dog. '], padding=True, return_tensors='pt')
    with torch.no_grad():
        want = reference(pixel_values=images, pixel_mask=inside, **tokens)
        scores, boxes = model(images, samples, mode='tensor')
    found, expected = scores[-1], want.logits
    assert torch.equal(found.isfinite(), expected.isfinite())
    zero = lambda x: x.masked_fill(x.isinf(), 0)
    torch.testing.assert_close(zero(found), zero(expected), rtol=0, atol=1e-4)
    torch.testing.assert_close(boxes[-1] * 128, want.pred_boxes * 128, rtol=0, atol=0.01)
    # The pictures alone have the same scores.
    with torch.no_grad():
        for index, sample in enumerate(samples):
            alone = model(images[index : index + 1], [sample], mode='tensor')[0][-1][0]
            size = alone.isfinite()[0].sum()
            torch.testing.assert_close(alone[:, :size], found[index, :, :size], rtol=0, atol=1e-4)
