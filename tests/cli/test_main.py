import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


def loaded_by(*arguments: str) -> set[str]:
    code = (
        'import sys\nfrom mmdet.cli.main import main\n'
        'try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\nprint("modules:", *sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition('modules:')[2].split())


@pytest.mark.parametrize('arguments', [['--help'], *([name, '--help'] for name in COMMANDS)], ids='-'.join)
def test_help_loads_nothing_heavy(arguments):
    assert not {'torch', 'mmengine', 'numpy', 'cv2', 'rich'} & loaded_by(*arguments)


def test_overview_names_all_commands(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f'  {name} ' in shown and text in shown for name, text in COMMANDS.items())


def test_an_unknown_command_is_one_sentence(capsys):
    assert main(['trian']) == 2
    assert "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12', '3.13', '3.14'])
def test_the_command_starts_on_this_python_with_nothing_installed(version):
    python = shutil.which(f'python{version}')
    command = [python, '-S', '-m', 'mmdet']
    if python is None or subprocess.run([python, '-c', ''], capture_output=True).returncode:
        pytest.skip(f'there is no Python {version}')
    done = subprocess.run([*command, 'train', '--help'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and '--resume' in done.stdout, done.stderr


def test_mistakes_are_one_line(capsys):
    assert main(['train', 'rtmdet-tinny']) == 1
    assert capsys.readouterr().err.count('\n') == 1
