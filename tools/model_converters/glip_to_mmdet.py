"""Bring a checkpoint of the official GLIP (Microsoft) into our names.

python tools/model_converters/glip_to_mmdet.py glip_a_tiny_o365.pth glip_tiny_a_mmdet.pth
"""

import os
import re
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.model_converters import convert_checkpoint
from mmdet.errors import UserKeyError

# What a prediction does not use: anchors, pooling, logits of fixed classes
LEFT_OUT = (
    r'language_backbone\.body\.model\.(pooler|embeddings\.position_ids)|rpn\.anchor_generator|'
    r'rpn\.head\.(cls_logits|tunable_linear)'
)
FPN = {'fpn_inner': 'lateral_convs', 'fpn_layer': 'fpn_convs'}


def convert(official: dict) -> dict:
    """Weights by our names.

    Raises:
        UserKeyError: a name that the official model does not have.
    """
    from mmdet.models.backbones.swin import swin_converter

    official = {name.removeprefix('module.'): value for name, value in official.items()}
    body, prefix = {}, 'backbone.body.'
    found = {}
    for name, value in official.items():
        if name.startswith(prefix):
            if not name.endswith('attn_mask'):
                body[name.removeprefix(prefix)] = value
        elif not re.match(LEFT_OUT, name):
            found[renamed(name)] = value
    return {**swin_converter(body), **found}


def renamed(name: str) -> str:
    """Our name of a weight outside of the backbone."""
    level = re.fullmatch(r'backbone\.fpn\.(fpn_inner|fpn_layer)([2-4])\.(.*)', name)
    if level:
        return f'neck.{FPN[level[1]]}.{int(level[2]) - 2}.conv.{level[3]}'
    extra = re.fullmatch(r'backbone\.fpn\.top_blocks\.p([67])\.(.*)', name)
    if extra:
        return f'neck.fpn_convs.{int(extra[1]) - 3}.conv.{extra[2]}'
    if name.startswith('language_backbone.'):
        return f'language_model.{name}'
    if name.startswith('rpn.head.'):
        return 'bbox_head.' + name.removeprefix('rpn.').replace('.DyConv.', '.dyconvs.').replace(
            '.AttnConv.', '.attnconv.'
        )
    raise UserKeyError(f'{name!r} is no weight of GLIP')


def main(argv=None):
    convert_checkpoint(convert, __doc__, argv)


if __name__ == '__main__':
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(), None))
