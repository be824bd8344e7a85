"""Refusals: the rule, the value received, the remedy; and how a command ends."""

from __future__ import annotations

import difflib
import errno
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable

REFUSED, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes of a command: refused input, a system error, Ctrl-C."""
MOST_DIGITS = 40
DISTRIBUTION = "cache-to-cache"
EXTRAS = {
    "evaluation": ("accelerate", "datasets", "lm_eval", "pandas", "pyarrow", "scipy", "sklearn"),
    "graders": ("math_verify", "rouge"),
    "workflow": ("jsonschema", "matplotlib", "psutil", "pygments", "rocrate", "seaborn", "snakemake", "typst"),
    "demo": ("gradio",),
    "agents": ("langgraph",),
    "exchange": ("mlcroissant",),
    "quantised": ("hqq",),
}
"""Modules that each extra of this package brings, beyond what the library alone needs."""


class _Excerpt(reprlib.Repr):
    """``repr`` of bounded length, in bounded time, of any value that a file can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 24
        self.maxstring = self.maxother = 600

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out more than 4,300 digits.
        return repr(x) if x.bit_length() < 3 * MOST_DIGITS else f"a number of {x.bit_length()} bits"


def excerpt(value: object) -> str:
    """`value` as ``repr`` shows it, cut in length, depth and number of elements."""
    return _Excerpt().repr(value)


class RefusedError(ValueError):
    """Bad input, refused before expensive work starts.

    Args:
        rule: What must hold, as a sentence with "must" and without a full stop.
        received: The value that breaks the rule; the message shows an `excerpt`.
        remedy: What the user can do about it, as a sentence without a full stop.
    """

    def __init__(self, rule: str, received: object, remedy: str) -> None:
        self.rule, self.received, self.remedy = rule, received, remedy
        super().__init__(f"{rule}; received {excerpt(received)}. {remedy}.")


class NoRoomError(RefusedError):
    """A text that is longer than what a model has positions for; a shorter one would be taken."""


class WrongModelError(RefusedError):
    """Models or caches that are not those of a contract; others, or a text in place of a cache, would be taken."""


class ModelFaultError(RefusedError):
    """A model that is of no use, whatever it is asked: it ends a run, where another refusal fails one question."""


def missing_package(error: ImportError) -> RefusedError | None:
    """The refusal of what needs a package of an extra that is not installed; None for any other import error."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if not isinstance(error, ModuleNotFoundError) or extra is None:
        return None
    return RefusedError(f"The package {module} must be installed for this", f"no {module}", install_remedy(extra))


def install_remedy(extra: str) -> str:
    """The command that installs an extra, as the remedy of a refusal."""
    return f"Install it: pip install '{DISTRIBUTION}[{extra}]'"


def check_choice(what: str, received: str, allowed: Iterable[str]) -> str:
    """Return `received` if it is one of `allowed`.

    Raises:
        RefusedError: Otherwise, with the allowed values and the nearest of them.
    """
    choices = list(allowed)
    if received in choices:
        return received
    near = difflib.get_close_matches(str(received), choices, n=1)
    hint = f"Did you mean {near[0]!r}? Choose" if near else "Choose"
    raise RefusedError(f"{what} must be a known name", received, f"{hint} one of: {', '.join(choices)}")


def exit_code(program: str, act: Callable[[], object]) -> int:
    """Run a command and report how it ended, in one line on stderr, where it did not succeed.

    An error of the operating system (no space, no permission, a closed pipe) and Ctrl-C need no traceback: they are no
    fault of this code. Of several processes that fail alike, the first reports it.

    Returns:
        0; REFUSED where the command refused its input; FAILED for an error of the operating system; INTERRUPTED.
    """
    try:
        act()
    except RefusedError as refusal:
        return _report(program, str(refusal), REFUSED)
    except BrokenPipeError:
        # Whoever read the output has left; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _report(program, "interrupted", INTERRUPTED)
    except Exception as error:
        if isinstance(error, ImportError) and (missing := missing_package(error)):
            return _report(program, str(missing), REFUSED)
        failure = system_error(error)
        if failure is None:
            raise
        place = f": {failure.filename}" if failure.filename else ""
        return _report(program, f"{failure.strerror}{place}. Nothing that was complete before is changed.", FAILED)
    return 0


def system_error(error: BaseException) -> OSError | None:
    """The error of the operating system that `error` is, or that a library has put into its own words.

    Returns:
        None for any other error, and for an OSError without a number, which a library made.
    """
    if isinstance(error, OSError):
        return None if error.errno is None else error
    text = str(error)
    # safetensors: "I/O error: No space left on device (os error 28)".
    if match := re.search(r"\(os error (\d+)\)", text):
        return OSError(int(match[1]), os.strerror(int(match[1])))
    # torch.save keeps no number: "PytorchStreamWriter failed writing file", or that it wrote fewer bytes than it meant.
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "unexpected pos" in text):
        return OSError(errno.EIO, "A file of saved states could not be written whole; see whether the disk is full")
    return None


def _report(program: str, message: str, code: int) -> int:
    if os.environ.get("RANK", "0") == "0":
        print(f"{program}: {message}", file=sys.stderr)
    return code
