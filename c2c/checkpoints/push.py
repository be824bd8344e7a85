"""Publishes own Fusers on the hub: the checkpoint, and a model card that says what it is and how to load it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from c2c.checkpoints.card import model_card
from c2c.checkpoints.checkpoint import save_pretrained, stack_folders
from c2c.checkpoints.checkpoint_folder import CONFIG, MANIFEST, WEIGHTS, read_config, read_manifest
from c2c.checkpoints.checkpoint_folder import PART
from c2c.checkpoints.components import Components
from c2c.checkpoints.results import read_results
from c2c.errors import RefusedError
from c2c.models import hub
from c2c.storage.folders import current

CARD = "README.md"
ALONGSIDE = ("history.csv", "gates.csv")
LICENSE = "apache-2.0"


def push_to_hub(
    components: Components,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    license: str = LICENSE,
    tokenizers: Sequence[PreTrainedTokenizerBase | None] = (),
    about: Mapping[str, Any] | None = None,
    scores: Sequence[str | Path] = (),
) -> str:
    """Publish a model's Fusers.

    Args:
        components: Of a model with Sharers.
        repo_id: ``owner/name`` on the hub; made if it does not exist.
        private: Whether a repository that is made is private.
        revision: Branch to push to, made if it does not exist; the main one if None.
        token: Of the hub; the one that is logged in if None.
        license: Of the Fusers, as the hub names it.
        tokenizers: As `c2c.checkpoints.checkpoint.save_pretrained` takes them.
        about: As `c2c.checkpoints.checkpoint.save_pretrained` takes it.
        scores: Files of ``c2c score`` whose results of these Fusers, with their controls, go on the card.

    Returns:
        The address of the commit.

    Raises:
        RefusedError: If there is no Sharer, `repo_id` is no hub id, `scores` have no result of these Fusers, or the hub
            refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(components, folder, tokenizers=tokenizers, about=about)
        return push_folder(
            folder, repo_id, private=private, revision=revision, token=token, license=license, scores=scores
        )


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    license: str = LICENSE,
    scores: Sequence[str | Path] = (),
) -> str:
    """Publish a folder of ``c2c train`` or `RosettaModel.save_pretrained`; arguments as in `push_to_hub`.

    Returns:
        The address of the commit.

    Raises:
        RefusedError: If a file is missing or changed, `repo_id` is no hub id, `scores` have no result of these Fusers, or
            the hub refuses.
    """
    if not hub.is_hub_id(repo_id):
        raise RefusedError("A repository must be named owner/name", repo_id, "Name your account or organisation too")
    with tempfile.TemporaryDirectory() as staged:
        stage(Path(folder), Path(staged), repo_id, license, [Path(path) for path in scores])
        return _upload(Path(staged), repo_id, private, revision, token)


def stage(folder: Path, staged: Path, repo_id: str, license: str = LICENSE, scores: Sequence[Path] = ()) -> None:
    """Copy the files of a fuser folder that go to the hub to `staged`, and write the card there.

    Raises:
        RefusedError: If a file is missing or changed, or `scores` have no result of these Fusers.
    """
    folder = current(folder)
    sharers = sum(re.fullmatch(PART, entry.name) is not None and any(entry.iterdir()) for entry in folder.glob("*/"))
    manifests, configs = [], []
    for part in stack_folders(folder, max(sharers, 1)):
        manifests.append(read_manifest(part))
        configs.append(read_config(part))
        target = staged / part.relative_to(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, WEIGHTS, MANIFEST, *ALONGSIDE):
            if (part / name).is_file():
                shutil.copyfile(part / name, target / name)
    contracts, about = [manifest["contract"] for manifest in manifests], [config["about"] for config in configs]
    accepted = list(dict.fromkeys(line for config in configs for line in config["contract_check"]["accepted"]))
    results = read_results(scores, contracts, about[0]) if scores else []
    card = model_card(repo_id, contracts, about, license, accepted=accepted, results=results)
    (staged / CARD).write_text(card, encoding="utf-8")


def _upload(staged: Path, repo_id: str, private: bool, revision: str | None, token: str | None) -> str:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=staged, revision=revision, commit_message="Fusers with their contract"
        )
    except Exception as error:
        raise RefusedError(
            "The hub must accept the upload",
            f"{repo_id} (revision {revision}): {type(error).__name__}",
            "Check the network and the name, and log in with a token that may write (hf auth login)",
        ) from error
    return str(commit.commit_url)
