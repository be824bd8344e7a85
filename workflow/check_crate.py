"""Validate a crate of `workflow.crate` by the rules of RO-Crate 1.1 and of the Provenance Run Crate 0.5.

    python -m workflow.check_crate results/smoke/crate.zip

The rules are those of roc-validator, REQUIRED ones only; those of the Workflow Run Crate, the Process Run Crate and the
Workflow RO-Crate belong to them. No network is needed: terms come from `schemas/ro_crate_1_1.yaml`, which has a part of
the published context. With ``--online`` the published context is fetched and used instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from requests import Request
from requests.adapters import HTTPAdapter
from rocrate_validator.models import Severity, ValidationResult, ValidationSettings
from rocrate_validator.services import validate
from rocrate_validator.utils.http import HttpRequester
from urllib3 import HTTPResponse

from c2c.errors import RefusedError, exit_code
from c2c.storage.formats import read_yaml

PROFILE = "provenance-run-crate-0.5"
"""It inherits the rules of all profiles below it, down to RO-Crate 1.1."""
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS = Path(__file__).parent / "schemas/ro_crate_1_1.yaml"


def context() -> dict[str, str]:
    """Address of each term in `TERMS`."""
    content = read_yaml(TERMS, f"Restore {TERMS.name} from the repository")
    others = content.pop("others")
    terms = {name: start + name for start, lists in content.items() for names in lists for name in names}
    return terms | others


def check(crate: Path, online: bool = False) -> ValidationResult:
    """Validate a crate.

    Args:
        crate: An archive (.zip), or the folder that it unpacks to.
        online: Fetch the published context instead of `TERMS`.

    Returns:
        The result of the validator; `has_issues` tells whether a rule is broken.

    Raises:
        RefusedError: There is no such crate.
    """
    if not (crate.is_dir() or (crate.suffix == ".zip" and crate.is_file())):
        raise RefusedError("A crate must be an archive (.zip) or a folder", str(crate), "Pack it first: make crate")
    with tempfile.TemporaryDirectory() as folder:
        settings = ValidationSettings(
            rocrate_uri=str(crate),
            profile_identifier=PROFILE,
            requirement_severity=Severity.REQUIRED,
            cache_path=Path(folder) / "contexts",
            cache_max_age=-1,
            offline=not online,
            # Addresses of licences and papers are not called up.
            skip_availability_check=True,
        )
        if not online:
            _offer(CONTEXT, {"@context": context()})
        return validate(settings)


def _offer(address: str, document: dict[str, object]) -> None:
    """Put a document into the validator's cache, as if it had been fetched from the address."""
    body = json.dumps(document).encode()
    raw = HTTPResponse(
        BytesIO(body),
        headers={"Content-Type": "application/ld+json", "Content-Length": str(len(body))},
        status=200,
        preload_content=False,
        request_url=address,
    )
    response = HTTPAdapter().build_response(Request("GET", address).prepare(), raw)
    HttpRequester().session.cache.save_response(response)


def problems(result: ValidationResult) -> list[str]:
    """One line for each broken rule, without repetitions."""
    lines = (f"{issue.check.identifier}: {issue.message} ({issue.violatingEntity})" for issue in result.get_issues())
    return list(dict.fromkeys(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; broken rules are printed and end with exit code 1, a refusal with 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crate", type=Path, help="the crate: an archive (.zip) or a folder")
    parser.add_argument("--online", action="store_true", help="use the published context, which is fetched")
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def run() -> None:
        result = check(options.crate, options.online)
        lines.extend(problems(result))
        print("\n".join(lines) or f"{options.crate} keeps all REQUIRED rules of {PROFILE} and of RO-Crate 1.1")

    return exit_code("workflow.check_crate", run) or int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
