"""The script of configs/glip/odinw, which renames the categories of three data sets of ODinW, in its place of 3.x.

python configs/grounding_dino/odinw/override_category.py --root data/odinw
"""

import runpy
from pathlib import Path

if __name__ == '__main__':
    runpy.run_path(str(Path(__file__).parents[2] / 'glip' / 'odinw' / 'override_category.py'), run_name='__main__')
