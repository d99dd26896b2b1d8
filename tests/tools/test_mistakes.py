"""Every tool tells a mistake of its caller in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.mark.slow
@pytest.mark.parametrize(
    'command',
    [
        'analysis_tools/analyze_logs.py plot_curve nowhere',
        'analysis_tools/analyze_results.py nowhere.py results.pkl shown',
        'analysis_tools/browse_dataset.py nowhere.py',
        'analysis_tools/coco_error_analysis.py nowhere.json shown --ann nowhere.json',
        'analysis_tools/confusion_matrix.py nowhere.py results.pkl shown',
        'analysis_tools/eval_metric.py nowhere.py results.pkl',
        'analysis_tools/get_flops.py nowhere.py',
        'analysis_tools/picture_sheet.py . sheet.jpg',
        'dataset_converters/cityscapes.py nowhere',
        'dataset_converters/images2coco.py . nowhere.txt out.json',
        'dataset_converters/pascal_voc.py nowhere',
        'config_check.py nowhere.py',
        'dataset_doctor.py nowhere.py',
        'misc/print_config.py nowhere.py',
        'replay.py nowhere.pth',
        'test.py nowhere.py nowhere.pth',
        'train.py nowhere.py',
    ],
)
def test_mistakes_are_one_line(command, tmp_path):
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(TOOLS / name), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
