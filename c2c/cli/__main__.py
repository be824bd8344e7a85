"""``python -m c2c.cli``: the command line where the script ``c2c`` is not installed."""

import sys

from c2c.cli.main import main

sys.exit(main())
