"""Downloads from the hub, and why one failed: in words, with the remedy that fits. Imports no torch."""

from __future__ import annotations

import errno
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from c2c.errors import RefusedError

MIRRORS = "C2C_HUB_MIRROR"
"""Environment variable: folders laid out as ``<owner>/<name>``, looked into before the hub is asked."""
NOT_REACHED = (ConnectionError, TimeoutError)
"""Beside these there are the TransportErrors of the HTTP library, whose name changes between versions of the hub's."""
LONGEST_EXCERPT = 300
"""Characters of an error that a refusal repeats."""
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class Reason(NamedTuple):
    """Why a download failed: what must hold instead, and what can be done."""

    rule: str
    remedy: str


def download(
    hub_id: str, revision: str | None, kind: str, subfolder: str | None = None, *, patterns: Sequence[str] | None = None
) -> Path:
    """The folder of a snapshot in the hub's cache, downloaded where it is not there yet.

    Args:
        hub_id: ``owner/name``, or an old id without an owner.
        revision: Commit, tag or branch; None for the newest.
        kind: ``model`` or ``dataset``.
        subfolder: Only this folder of it.
        patterns: Only files whose names have one of these forms, such as ``*.json``.

    Raises:
        RefusedError: If the hub does not give it, with the hub's reason.
    """
    # Imported late: most runs download nothing.
    from huggingface_hub import snapshot_download

    only = patterns if subfolder is None else [f"{glob.escape(subfolder)}/*"]
    try:
        return Path(
            snapshot_download(
                hub_id, revision=revision, repo_type=kind, allow_patterns=None if only is None else list(only)
            )
        )
    except Exception as error:  # whatever it is, nothing was downloaded, and the refusal says why
        reason = _reason(error, hub_id, kind)
        source = hub_id if revision is None else f"{hub_id} at {revision}"
        raise RefusedError(reason.rule, f"{source}: {_excerpt(error)}", reason.remedy) from error


def list_folders(hub_id: str, revision: str | None, kind: str) -> list[str]:
    """Names of the folders of a repository; empty if the hub does not say."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(hub_id, revision=revision, repo_type=kind)
    except Exception:  # the refusal that this is for says more than why its list is missing
        return []
    return sorted({name.split("/")[0] for name in files if "/" in name})


def _reason(error: Exception, hub_id: str, kind: str) -> Reason:
    """The rule that a failed download broke, and its remedy, from the first error in its chain that says either."""
    from huggingface_hub import errors

    place = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{hub_id}"
    network = f"Connect to the network (and unset HF_HUB_OFFLINE), fetch it where the network is, or set {MIRRORS}"
    reasons = (
        (errors.GatedRepoError, Reason(
            f"The licence of a gated {kind} must be accepted before it is downloaded",
            f"Accept it at {place}, then {LOG_IN}")),
        (errors.RepositoryNotFoundError, Reason(
            f"A {kind} must be a folder, a mirrored id or an id that the hub has and shows to you",
            f"Check the name; if it is private or gated, {LOG_IN}")),
        (errors.RevisionNotFoundError, Reason(
            f"A revision must be a commit, tag or branch of {hub_id}",
            "Leave the revision out for the newest one, or look it up among the repository's commits")),
        (errors.HFValidationError, Reason(
            f"A {kind} must be a folder, a mirrored id or an id that the hub has",
            "Write the id as owner/name, or correct the path of the folder")),
    )  # fmt: skip
    not_reached = Reason(f"The hub must be reached for a {kind} that is not here yet", network)
    for cause in _chain(error):
        # The system and the status of an answer say more than the class of the error around them.
        if (reason := _of_the_system(cause)) or (reason := _of_the_status(cause, network)):
            return reason
        if reason := next((reason for error_class, reason in reasons if isinstance(cause, error_class)), None):
            return reason
        if isinstance(cause, NOT_REACHED) or any(base.__name__ == "TransportError" for base in type(cause).__mro__):
            return not_reached
    # The hub gave no answer, and its cache holds nothing.
    if isinstance(error, errors.LocalEntryNotFoundError):
        return not_reached
    return Reason(
        f"A {kind} must be a folder, a mirrored id or an id that the hub has",
        f"Check the name and the network, fetch it where the network is (c2c fetch), or name a mirror in {MIRRORS}",
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and its causes, the first cause first, since it names the reason most exactly."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__
    return causes[::-1]


def _of_the_system(error: BaseException) -> Reason | None:
    """What the operating system refused."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Reason("There must be space for a download", "Free space, or set HF_HOME to a folder on a larger disk")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Reason("The hub's cache must be a folder that you can write", "Set HF_HOME to a folder of your own")
    return None


def _of_the_status(error: BaseException, network: str) -> Reason | None:
    """What the answer of a server says by its number."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    # The hub's own classes of error have a reason of their own; the general ones have only the status.
    specific = type(error).__name__ not in ("HfHubHTTPError", "HTTPStatusError", "HTTPError")
    if not isinstance(status, int) or specific:
        return None
    if status in (401, 403):
        return Reason("The hub must allow you the download", f"Check your rights, then {LOG_IN}")
    if status == 429:
        return Reason("The hub must not be asked too often", f"Wait some minutes; to be allowed more, {LOG_IN}")
    return Reason("The hub must answer", f"Try again later. {network}") if status >= 500 else None


def _excerpt(error: Exception) -> str:
    """Type and beginning of the text of an error, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST_EXCERPT]}" if text else type(error).__name__
