"""`python -m minray` is the command `minray`."""

import sys

from minray.cli.main import main

sys.exit(main())
