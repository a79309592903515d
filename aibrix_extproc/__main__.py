"""`python -m aibrix_extproc` is the `aibrix-extproc` command."""

import sys

from aibrix_extproc.cli.main import main

sys.exit(main())
