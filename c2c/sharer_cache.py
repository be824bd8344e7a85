"""A Sharer's cache as a file, so that Sharer and Receiver need not share a process or a device.

A folder of two files, version 1:

``cache.safetensors``
    ``key.{s}`` and ``value.{s}`` for each Sharer layer s, ``(B, Hs, M, Ds)`` as the model's cache holds them (after
    k-norm and RoPE); ``input_ids`` and ``attention_mask`` ``(B, M)`` int64, what the Sharer read; ``token_map``
    ``(B, n)`` int64, for each of the first n Receiver tokens the Sharer token that it is fused with, or -1.
``manifest.json``
    ``format`` ("c2c-sharer-cache"), ``version``, ``sharer`` (the lines that a contract has of it), ``shape`` (its
    layers, heads and head dimension), ``rows``, ``tokens``, ``dtype``, and ``sha256`` of the other file. It is
    written last: a folder that has one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2c import kv_cache
from c2c.alignment.tokens import SharerInput
from c2c.checkpoint import read_manifest
from c2c.contract import ContractCheck, check_contract, describe_model
from c2c.errors import RefusedError
from c2c.files import write_atomically
from c2c.manifests import COUNT, check_counts, check_keys, read_object
from c2c.provenance import file_hash
from c2c.types import CacheShape, KeyValue

FORMAT, VERSION = "c2c-sharer-cache", 1
STATES, MANIFEST = "cache.safetensors", "manifest.json"
MANIFEST_KEYS = {
    "format": str,
    "version": int,
    "sharer": dict,
    "shape": dict,
    "rows": int,
    "tokens": int,
    "dtype": str,
    "sha256": dict,
}
WRITE_AGAIN = "Write the cache again"


@dataclass(frozen=True)
class SharerCache:
    """What a Sharer's cache holds of a batch.

    Args:
        layers: S layers of keys and values ``(B, Hs, M, Ds)``.
        input_ids: ``(B, M)`` int64, the Sharer's tokens.
        attention_mask: ``(B, M)``, 1 for tokens and 0 for pads.
        token_map: ``(B, n)`` int64 into the M tokens, or -1; see `SharerInput`.
        sharer: The model's lines of a contract, as `c2c.contract.describe_model` gives them.
    """

    layers: Sequence[KeyValue]
    input_ids: Tensor
    attention_mask: Tensor
    token_map: Tensor
    sharer: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def read(
        cls, model: PreTrainedModel, given: SharerInput, *, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> SharerCache:
        """Let a Sharer read what it is given.

        Args:
            model: The Sharer.
            given: From `TokenAligner` and `batch_readings`; its tensors may be on any device.
            tokenizer: Of the Sharer, so that the manifest can name it too.
        """
        here = given.to(model.device)
        positions = kv_cache.positions_of(here.attention_mask)
        cache = kv_cache.prefill(model, here.input_ids, here.attention_mask, positions)
        about = describe_model(model, tokenizer)
        return cls(kv_cache.layers_of(cache), given.input_ids, given.attention_mask, given.token_map, about)

    def check_fusers(self, folder: str | Path, override: Sequence[str] = ()) -> ContractCheck:
        """Compare the model that this cache is of with the Sharer that saved Fusers were trained for.

        Args:
            folder: A checkpoint of one Sharer's Fusers.
            override: Lines that may differ, such as ``sharer.tokenizer_sha256``; see `c2c.contract.check_contract`.

        Raises:
            RefusedError: With each line that differs.
        """
        expected = read_manifest(folder)["contract"]["sharer"]
        return check_contract([{"sharer": expected}], [{"sharer": dict(self.sharer)}], override)

    def as_input(self) -> SharerInput:
        """What `RosettaModel` takes in place of running the Sharer; it says of which model the cache is."""
        return SharerInput(
            self.input_ids, self.attention_mask, self.token_map, layers=self.layers, sharer=dict(self.sharer)
        )

    def save(self, folder: str | Path) -> None:
        """Write the two files; an earlier cache in `folder` is replaced."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        tensors = {
            f"{half}.{number}": states
            for number, layer in enumerate(self.layers)
            for half, states in zip(("key", "value"), layer, strict=True)
        }
        tensors |= {name: getattr(self, name) for name in ("input_ids", "attention_mask", "token_map")}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / STATES)
        batch, heads, tokens, head_dim = self.layers[0][0].shape
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "sharer": dict(self.sharer),
            "shape": CacheShape(len(self.layers), heads, head_dim)._asdict(),
            "rows": batch,
            "tokens": tokens,
            "dtype": str(self.layers[0][0].dtype).removeprefix("torch."),
            "sha256": {STATES: file_hash(folder / STATES)},
        }
        write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> SharerCache:
        """Read what `save` wrote, in any process.

        Args:
            folder: The two files.
            device: Where the keys and values go.

        Raises:
            RefusedError: If a file is missing or changed, the version is unknown, or tensors do not fit the manifest.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        try:
            tensors = load_file(folder / STATES, device=str(device))
        except SafetensorError as error:
            raise RefusedError(f"{STATES} must be a safetensors file", str(error), "Write the cache again") from error
        shape = CacheShape(**manifest["shape"])
        states = (manifest["rows"], shape.heads, manifest["tokens"], shape.head_dim)
        expected: dict[str, tuple[int, ...]] = {
            f"{half}.{layer}": states for layer in range(shape.layers) for half in ("key", "value")
        }
        expected |= dict.fromkeys(("input_ids", "attention_mask"), (manifest["rows"], manifest["tokens"]))
        _check_tensors(tensors, expected, manifest["dtype"])
        layers = [(tensors[f"key.{number}"], tensors[f"value.{number}"]) for number in range(shape.layers)]
        ids, mask, token_map = (tensors[name].cpu() for name in ("input_ids", "attention_mask", "token_map"))
        return cls(layers, ids, mask, token_map, manifest["sharer"])


def _read_manifest(folder: Path) -> dict[str, Any]:
    for name in (MANIFEST, STATES):
        if not (folder / name).is_file():
            raise RefusedError(
                f"A Sharer's cache is a folder with {STATES} and {MANIFEST}",
                f"no {name} in {folder.name}/",
                "Wait until it is written, or write it again",
            )
    manifest = read_object(folder / MANIFEST, WRITE_AGAIN)
    found = (manifest.get("format"), manifest.get("version"))
    if found != (FORMAT, VERSION):
        raise RefusedError(
            f"A Sharer's cache must be {FORMAT}, version {VERSION}", found, "Write it with the same version of c2c"
        )
    check_keys(MANIFEST, manifest, MANIFEST_KEYS, remedy=WRITE_AGAIN)
    check_keys(f"shape in {MANIFEST}", manifest["shape"], COUNT, remedy=WRITE_AGAIN)
    check_keys(f"sha256 in {MANIFEST}", manifest["sha256"], {STATES: str}, remedy=WRITE_AGAIN)
    check_counts(MANIFEST, manifest, remedy=WRITE_AGAIN)
    check_counts(f"shape in {MANIFEST}", manifest["shape"], remedy=WRITE_AGAIN)
    if file_hash(folder / STATES) != manifest["sha256"][STATES]:
        raise RefusedError(
            f"{STATES} must be the file that the manifest names", "another hash", "Copy the folder again"
        )
    return manifest


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], dtype: str) -> None:
    wrong = sorted({*expected, "token_map"} ^ tensors.keys())
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    wrong += [
        f"{name} is {tensor.dtype}, expected {dtype}"
        for name, tensor in tensors.items()
        if name.startswith(("key.", "value.")) and str(tensor.dtype) != f"torch.{dtype}"
    ]
    if wrong:
        raise RefusedError(f"{STATES} must hold what the manifest says", wrong, "Write the cache again")
