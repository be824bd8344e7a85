"""``c2c`` with gates that are learned without noise, so that it does not matter which process drew what."""

import sys

import torch

from c2c.cli.main import main
from c2c.fuser.layer import Fuser


def _silent(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros((*like.shape[:-1], 1), dtype=dtype, device=like.device)


if __name__ == "__main__":
    Fuser.gumbel_noise = staticmethod(_silent)
    sys.exit(main())
