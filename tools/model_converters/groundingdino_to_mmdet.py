"""Bring a checkpoint of the official Grounding DINO (IDEA-Research) into our names.

    python tools/model_converters/groundingdino_to_mmdet.py groundingdino_swint_ogc.pth grounding_dino_swin-t.pth

The label book of its denoising is left out: its 2,000 entries are those of no data set.
"""

import os
import re
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.model_converters import convert_checkpoint
from mmdet.errors import UserKeyError

# What is of no use here: buffers, heads without weights of their own, the second name of a shared weight
LEFT_OUT = r'(bert\.embeddings\.position_ids|bbox_embed|label_enc|backbone\.0\..*attn_mask)\b'
RENAMES = [
    (r'bert\.', 'language_model.language_backbone.body.model.'),
    (r'feat_map\.', 'text_feat_map.'),
    (r'input_proj\.([0-2])\.0\.', r'neck.convs.\1.conv.'),
    (r'input_proj\.([0-2])\.1\.', r'neck.convs.\1.gn.'),
    (r'input_proj\.3\.0\.', 'neck.extra_convs.0.conv.'),
    (r'input_proj\.3\.1\.', 'neck.extra_convs.0.gn.'),
    (r'transformer\.level_embed$', 'level_embed'),
    (r'transformer\.tgt_embed\.', 'query_embedding.'),
    (r'transformer\.enc_output\.', 'memory_trans_fc.'),
    (r'transformer\.enc_output_norm\.', 'memory_trans_norm.'),
    (r'transformer\.(encoder|decoder)\.', r'\1.'),
]
# The decoder's layers attend to queries, text and picture in turn; its norms are numbered in the order of writing
DECODER_NORMS = {'norm2': 'norms.0', 'catext_norm': 'norms.1', 'norm1': 'norms.2', 'norm3': 'norms.3'}
LAYERS = [
    (r'^(.*layers\.\d+)\.linear1\.', r'\1.ffn.layers.0.0.'),
    (r'^(.*layers\.\d+)\.linear2\.', r'\1.ffn.layers.1.'),
    (r'^(decoder\.layers\.\d+)\.ca_text\.', r'\1.cross_attn_text.attn.'),
    (r'^((?:decoder\.|encoder\.text_)layers\.\d+\.self_attn)\.', r'\1.attn.'),
    (r'^(encoder\.(?:text_)?layers\.\d+)\.norm1\.', r'\1.norms.0.'),
    (r'^(encoder\.(?:text_)?layers\.\d+)\.norm2\.', r'\1.norms.1.'),
    *((rf'^(decoder\.layers\.\d+)\.{old}\.', rf'\1.{new}.') for old, new in DECODER_NORMS.items()),
]
BOXES = r'transformer\.(decoder\.bbox_embed\.(\d+)|enc_out_bbox_embed)\.layers\.(\d)\.(weight|bias)'


def convert(official: dict) -> dict:
    """Weights by our names.

    Raises:
        UserKeyError: a name that the official model does not have.
    """
    from mmdet.models.backbones.swin import swin_converter

    official = {name.removeprefix('module.'): value for name, value in official.items()}
    swin = {name.removeprefix('backbone.0.'): v for name, v in official.items() if name.startswith('backbone.0.')}
    found = dict(swin_converter({name: value for name, value in swin.items() if not name.endswith('attn_mask')}))
    layers = [int(match[2]) for name in official if (match := re.fullmatch(BOXES, name)) and match[2]]
    for name, value in official.items():
        if name.startswith('backbone.0.') or re.match(LEFT_OUT, name):
            continue
        box = re.fullmatch(BOXES, name)
        if box:  # a linear layer, every other one of the branch; the encoder's comes last
            place = box[2] or max(layers, default=-1) + 1
            found[f'bbox_head.reg_branches.{place}.{2 * int(box[3])}.{box[4]}'] = value
            continue
        new = next((re.sub(f'^{old}', to, name) for old, to in RENAMES if re.match(old, name)), None)
        if new is None:
            raise UserKeyError(f'{name!r} is no weight of Grounding DINO')
        for old, to in LAYERS:
            new = re.sub(old, to, new)
        found[new] = value
    return found


def main(argv=None):
    convert_checkpoint(convert, __doc__, argv)


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
