"""Why the hub gave nothing is said, with the remedy that fits."""

from __future__ import annotations

import errno
from collections.abc import Callable

import httpx2
import pytest
from huggingface_hub import errors

from c2c.models import hub
from tests.bad_inputs.refusals import refused

REPOSITORY = "https://huggingface.co/api/models/owner/model/revision/main"


def answered(kind: type[Exception], status: int, message: str) -> Exception:
    """What huggingface_hub raises for an answer of the hub."""
    response = httpx2.Response(status, request=httpx2.Request("GET", REPOSITORY))
    return kind(message, response=response)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


OFFLINE = "Cannot find an appropriate cached snapshot folder for the specified revision on the local disk"
ERRORS: dict[str, tuple[Callable[[], Exception], tuple[str, ...]]] = {
    "18 gated": (
        lambda: answered(errors.GatedRepoError, 403, "Access to model owner/model is restricted."),
        ("licence", "Access to model owner/model is restricted", "https://huggingface.co/owner/model", "hf auth login"),
    ),
    "18 unauthorised": (
        lambda: answered(errors.RepositoryNotFoundError, 401, "Repository Not Found. Invalid username or password."),
        ("Repository Not Found", "Check the name", "hf auth login"),
    ),
    "18 not found": (
        lambda: answered(errors.RepositoryNotFoundError, 404, "Repository Not Found"),
        ("Repository Not Found", "Check the name"),
    ),
    "forbidden": (lambda: answered(errors.HfHubHTTPError, 403, "Forbidden: token"), ("Forbidden", "hf auth login")),
    "too many requests": (
        lambda: answered(errors.HfHubHTTPError, 429, "Too Many Requests"),
        ("Wait", "Too Many Requests"),
    ),
    "the hub is down": (lambda: answered(errors.HfHubHTTPError, 503, "Service Unavailable"), ("Try again later",)),
    "an unknown revision": (
        lambda: answered(errors.RevisionNotFoundError, 404, "Revision Not Found"),
        ("commit, tag or branch", "Leave the revision out"),
    ),
    "18 disk full": (lambda: OSError(errno.ENOSPC, "No space left on device"), ("No space left", "Free space")),
    "disk full beneath another error": (
        lambda: caused(RuntimeError("Data processing error"), OSError(errno.ENOSPC, "No space left on device")),
        ("Data processing error", "Free space", "HF_HOME"),
    ),
    "18 no permission": (
        lambda: PermissionError(errno.EACCES, "Permission denied", "/cache/huggingface"),
        ("/cache/huggingface", "Set HF_HOME"),
    ),
    "a cache that cannot be written": (lambda: OSError(errno.EROFS, "Read-only file system"), ("Set HF_HOME",)),
    "offline": (
        lambda: caused(errors.LocalEntryNotFoundError(OFFLINE), errors.OfflineModeIsEnabled("Offline mode")),
        ("must be reached", "HF_HUB_OFFLINE", "C2C_HUB_MIRROR"),
    ),
    "no network": (
        lambda: caused(errors.LocalEntryNotFoundError("Got: ConnectError"), httpx2.ConnectError("Name not known")),
        ("must be reached", "C2C_HUB_MIRROR"),
    ),
    "too slow": (lambda: TimeoutError("timed out"), ("must be reached",)),
    "a proxy's answer": (lambda: httpx2.ProxyError("407 Proxy Authentication Required"), ("407", "must be reached")),
    "an id that cannot be one": (lambda: errors.HFValidationError("Repo id must use…"), ("owner/name",)),
    "anything else": (lambda: RuntimeError("boom " * 1_000), ("RuntimeError: boom", "c2c fetch")),
    "nothing said": (lambda: RuntimeError(), ("RuntimeError",)),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_reason_of_the_hub_is_kept_and_the_remedy_fits(case, monkeypatch) -> None:
    error, words = ERRORS[case]

    def download(*arguments, **options) -> str:
        raise error()

    monkeypatch.delenv("C2C_HUB_MIRROR", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with refused("owner/model at main", *words):
        hub.resolve("owner/model", "main")


def test_a_gated_data_set_is_shown_where_its_licence_is_accepted(monkeypatch) -> None:
    def download(*arguments, **options) -> str:
        raise answered(errors.GatedRepoError, 403, "Access to dataset Idavidrein/gpqa is restricted.")

    monkeypatch.delenv("C2C_HUB_MIRROR", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with refused("https://huggingface.co/datasets/Idavidrein/gpqa"):
        hub.resolve("Idavidrein/gpqa", kind="dataset")


def test_ctrl_c_is_no_error_of_the_hub(monkeypatch) -> None:
    def download(*arguments, **options) -> str:
        raise KeyboardInterrupt

    monkeypatch.delenv("C2C_HUB_MIRROR", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(KeyboardInterrupt):
        hub.resolve("owner/model")
