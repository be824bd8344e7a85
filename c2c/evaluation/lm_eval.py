"""lm-eval's own command line with this project's methods among its models.

    python -m c2c.evaluation.lm_eval --model c2c --model_args receiver=…,sharer=…,fuser=… --tasks … --include_path …

takes what ``lm_eval`` takes. That command itself cannot know `c2c`: lm-eval lists its models in its own package and has
no entry point by which another package adds to them.
"""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate

import c2c.evaluation.methods  # noqa: F401  registers the methods


def main() -> None:
    """Run lm-eval's command line."""
    cli_evaluate()


if __name__ == "__main__":
    main()
