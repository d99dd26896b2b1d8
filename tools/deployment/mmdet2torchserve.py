"""Pack a detector as an archive (.mar) for TorchServe.

    python tools/deployment/mmdet2torchserve.py CONFIG CHECKPOINT --output-folder model_store --model-name shapes

It needs the package torch-model-archiver.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import run
from mmdet.errors import UserFileError, UserImportError, UserRuntimeError

HANDLER = Path(__file__).with_name('mmdet_handler.py')


def mmdet2torchserve(config, checkpoint, output_folder, model_name=None, model_version='1.0', force=False):
    """Write ``output_folder/model_name.mar`` with the weights, the whole config and the handler; gives its path.

    Raises:
        UserFileError: there is such an archive, and ``force`` is not set.
        UserImportError: there is no torch-model-archiver.
    """
    from mmdet.config import load_config

    out = Path(output_folder) / f'{model_name or Path(checkpoint).stem}.mar'
    if not Path(checkpoint).is_file():
        raise UserFileError(f'There is no checkpoint {str(checkpoint)!r}.')
    if out.exists() and not force:
        raise UserFileError(f'{out} exists; --force overwrites it')
    places = [str(Path(sys.executable).parent), os.environ.get('PATH', '')]
    archiver = shutil.which('torch-model-archiver', path=os.pathsep.join(places))
    if archiver is None:
        raise UserImportError('An archive is made by torch-model-archiver: pip install torch-model-archiver')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / 'config.py'
        load_config(config).dump(str(config_file))
        command = [archiver, '--model-name', out.stem, '--version', model_version, '--handler', str(HANDLER)]
        command += ['--serialized-file', str(checkpoint), '--extra-files', str(config_file)]
        command += ['--export-path', str(out.parent), *(['--force'] if force else [])]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserRuntimeError(f'torch-model-archiver failed: {done.stderr.strip()[-500:]}')
    print(f'The archive is {out}')
    return out


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--output-folder', required=True, help='folder for the archive')
    parser.add_argument('--model-name', help='by default the name of the checkpoint')
    parser.add_argument('--model-version', default='1.0')
    parser.add_argument('-f', '--force', action='store_true', help='overwrite an archive of that name')
    args = parser.parse_args(argv)
    mmdet2torchserve(**vars(args))


if __name__ == '__main__':
    run(main)
