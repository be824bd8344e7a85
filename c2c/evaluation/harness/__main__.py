"""``python -m c2c.evaluation.harness``: lm-eval's command with the models of this package."""

from c2c.evaluation.harness.command import main

raise SystemExit(main())
