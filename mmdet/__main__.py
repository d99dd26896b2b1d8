"""``python -m mmdet``"""

import sys

from mmdet.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
