"""Make a checkpoint ready to be published: without the state of its training, with its hash in its name.

python tools/model_converters/publish_model.py work_dirs/quickstart/epoch_16.pth shapes.pth
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import run
from mmdet.errors import UserKeyError


def process_checkpoint(in_file, out_file, save_keys=('meta', 'state_dict')):
    """Write the ``save_keys`` of a checkpoint to ``NAME-<first 8 of its SHA-256>.SUFFIX``, and give that path."""
    from mmdet.utils.checkpoint import read_file, save_checkpoint
    from mmdet.utils.downloads import sha256

    checkpoint = read_file(in_file)
    missing = [key for key in save_keys if key not in checkpoint]
    if missing:
        raise UserKeyError(f'{in_file} has no {", ".join(missing)}, only {", ".join(map(str, checkpoint))}')
    for key in set(checkpoint) - set(save_keys):
        print(f'Left out: {key}')
    out = Path(out_file)
    suffix = out.suffix or '.pth'
    stem = out.with_suffix('')
    temporary = out.with_name(f'.{out.name}.{os.getpid()}{suffix}')
    try:
        save_checkpoint({key: checkpoint[key] for key in save_keys}, temporary)
        digest = sha256(temporary)
        final = stem.with_name(f'{stem.name}-{digest[:8]}{suffix}')
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
    print(f'The published model is {final}')
    return final


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('in_file', help='checkpoint to read')
    parser.add_argument('out_file', help='name to write, .pth or .safetensors; the hash is put before the suffix')
    parser.add_argument('--save-keys', nargs='+', default=['meta', 'state_dict'], help='what of the checkpoint to keep')
    args = parser.parse_args(argv)
    process_checkpoint(args.in_file, args.out_file, args.save_keys)


if __name__ == '__main__':
    run(main)
