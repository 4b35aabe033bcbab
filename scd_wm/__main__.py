"""`python -m scd_wm` is `scd-wm`."""

import sys

from scd_wm.cli import main

if __name__ == "__main__":
    sys.exit(main())
