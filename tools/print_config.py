"""Print a config with all that it inherits, or what it changes in its base (``misc/print_config.py``)."""

import os
import runpy

runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'misc', 'print_config.py'), run_name='__main__')
