"""The notebooks of the documentation run from their first cell to their last, in a folder of their own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))


def cells(path: Path) -> list[str]:
    content = json.loads(path.read_text(encoding='utf-8'))
    assert content['nbformat'] == 4
    return [''.join(cell['source']) for cell in content['cells'] if cell['cell_type'] == 'code']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_python_without_results(path):
    """No magic of a shell, so that they run anywhere; no results, so that a change is a change."""
    assert all(ast.parse(source).body for source in cells(path))
    code = [cell for cell in json.loads(path.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']
    assert code and not any(cell['outputs'] or cell['execution_count'] for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    if path.stem == 'export':
        for package in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(package)
    script = tmp_path / 'cells.py'
    script.write_text('\n\n'.join(cells(path)), encoding='utf-8')
    environment = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
