"""A Sharer's cache as a file, so that Sharer and Receiver need not share a process or a device.

A folder of two files, version 1:

``cache.safetensors``
    ``key.{s}`` and ``value.{s}`` for each Sharer layer s, ``(B, Hs, M, Ds)`` as the model's cache holds them (after
    k-norm and RoPE); ``input_ids`` and ``attention_mask`` ``(B, M)`` int64, what the Sharer read; ``token_map``
    ``(B, n)`` int64, for each of the first n Receiver tokens the Sharer token that it is fused with, or -1.
``manifest.json``
    ``format`` ("c2c-sharer-cache"), ``version``, ``sharer`` (the lines that a contract has of it), ``shape`` (its
    layers, heads and head dimension), ``rows``, ``tokens``, ``dtype``, ``sha256`` of the other file, and, where they
    were given, ``envelope`` and ``signature`` (`c2c.checkpoints.signing`). It is written last: a folder that has one is
    complete.

The hash is in the same folder as the file, so it detects damage only: whoever alters one can alter the other. A signature
detects that too, if the cache is loaded with the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache
from c2c.checkpoints.checkpoint_folder import MODEL_KINDS, read_manifest
from c2c.checkpoints.signing import Envelope, Key, SigningKey
from c2c.errors import RefusedError, check_choice, excerpt
from c2c.fuser.weights import NUMBERS, Form, read_header
from c2c.models.contract import ContractCheck, check_contract, describe_model
from c2c.provenance import file_hash
from c2c.storage.folders import current, exchange
from c2c.storage.manifests import COUNT, LARGEST_COUNT, check_counts, check_keys, check_kinds, read_object
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
    "envelope": dict,
    "signature": str,
}
LATER_KEYS = ("envelope", "signature")
"""Keys of a manifest that only an addressed or signed message has."""
ROWS = ("input_ids", "attention_mask", "token_map")
WRITE_AGAIN = "Write the cache again"


@dataclass(frozen=True)
class SharerCache:
    """What a Sharer's cache holds of a batch.

    Args:
        layers: S layers of keys and values ``(B, Hs, M, Ds)``.
        input_ids: ``(B, M)`` int64, the Sharer's tokens.
        attention_mask: ``(B, M)``, 1 for tokens and 0 for pads.
        token_map: ``(B, n)`` int64 into the M tokens, or -1; see `SharerInput`.
        sharer: The model's lines of a contract, as `c2c.models.contract.describe_model` gives them.
        envelope: Sender, receiver, contract and subject; empty unless it was saved with one.
    """

    layers: Sequence[KeyValue]
    input_ids: Tensor
    attention_mask: Tensor
    token_map: Tensor
    sharer: Mapping[str, Any] = field(default_factory=dict)
    envelope: Envelope = Envelope()

    @classmethod
    @torch.no_grad()
    def of_model(
        cls, model: PreTrainedModel, sharer_input: SharerInput, *, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> SharerCache:
        """Run a Sharer over its input, and take its cache.

        Args:
            model: The Sharer.
            sharer_input: From `TokenAligner` and `batch_readings`; its tensors may be on any device.
            tokenizer: Of the Sharer, so that the manifest can name it too.

        Raises:
            RefusedError: If the model's cache is not keys and values.
        """
        inputs = sharer_input.to(model.device)
        positions = kv_cache.positions_of(inputs.attention_mask)
        layers = kv_cache.layers_of(kv_cache.prefill(model, inputs.input_ids, inputs.attention_mask, positions))
        about = describe_model(model, tokenizer)
        return cls(layers, sharer_input.input_ids, sharer_input.attention_mask, sharer_input.token_map, about)

    def check_fusers(self, folder: str | Path, override: Sequence[str] = ()) -> ContractCheck:
        """Compare the model that this cache is of with the Sharer that saved Fusers were trained for.

        Args:
            folder: A checkpoint of one Sharer's Fusers.
            override: Lines that may differ, such as ``sharer.tokenizer_sha256``; see
                `c2c.models.contract.check_contract`.

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

    def save(self, folder: str | Path, *, key: Key | None = None, envelope: Envelope | None = None) -> str:
        """Write the two files; an earlier cache in `folder` is there until the new one is complete.

        Args:
            folder: Created if it does not exist.
            key: Signs tensors, model and envelope: a `SigningKey`, its bytes, ``env:NAME``, or the path of its file. The
                key itself is not written.
            envelope: Sender, receiver, contract and subject; those of this cache if None.

        Returns:
            SHA-256 of ``manifest.json``, which names the other file's.

        Raises:
            RefusedError: If there is no such key; before anything is written.
        """
        signer = None if key is None else SigningKey.of(key)
        address = self.envelope if envelope is None else envelope
        # Keys after their norm and rotation, values as they are: what a Fuser reads
        tensors = {
            f"{half}.{number}": states
            for number, layer in enumerate(self.layers)
            for half, states in zip(("key", "value"), layer, strict=True)
        }
        tensors |= {name: getattr(self, name) for name in ROWS}
        batch, heads, tokens, head_dim = self.layers[0][0].shape
        with exchange(Path(folder), (STATES, MANIFEST)) as unfinished:
            path = unfinished / STATES
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "sharer": dict(self.sharer),
                "shape": CacheShape(len(self.layers), heads, head_dim)._asdict(),
                "rows": batch,
                "tokens": tokens,
                "dtype": str(self.layers[0][0].dtype).removeprefix("torch."),
                "sha256": {STATES: file_hash(path)},
            }
            if address != Envelope():
                manifest["envelope"] = address.to_dict()
            if signer is not None:
                manifest["signature"] = signer.sign(manifest)
            text = json.dumps(manifest, indent=1) + "\n"
            (unfinished / MANIFEST).write_text(text, encoding="utf-8")
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        *,
        key: Key | None = None,
        envelope: Envelope | None = None,
    ) -> SharerCache:
        """Read what `save` wrote, in any process.

        Args:
            folder: The two files.
            device: Where the keys and values go.
            key: The message must be signed with it. Without a key a signature is not checked, and a changed file is found
                only if its hash in the same folder was not changed with it.
            envelope: Fields that are not empty must be those of the message.

        Raises:
            RefusedError: If a file is missing or changed, the version is unknown, or tensors do not fit the manifest; with
                a key, if the signature is missing or does not fit; if the envelope is another.
        """
        signer = None if key is None else SigningKey.of(key)
        folder = current(Path(folder))
        # In this order nothing is allocated, or read to its end, that the header of the states has not shown to fit.
        manifest = _read_manifest(folder)
        if signer is not None:
            signer.check({name: manifest[name] for name in manifest if name != "signature"}, manifest.get("signature"))
        address = Envelope.read(manifest["envelope"]) if "envelope" in manifest else Envelope()
        address.check(envelope or Envelope())
        shape = CacheShape(**manifest["shape"])
        _check_header(read_header(folder / STATES, WRITE_AGAIN), manifest, shape)
        # What was signed is read once, so that nobody can exchange the file between its hash and its use.
        content = None if signer is None else (folder / STATES).read_bytes()
        digest = file_hash(folder / STATES) if content is None else hashlib.sha256(content).hexdigest()
        if digest != manifest["sha256"][STATES]:
            raise RefusedError(
                f"{STATES} must be the file that the manifest names", "another hash", "Copy the folder again"
            )
        if content is None:
            tensors = load_file(folder / STATES, device=str(device))
        else:
            tensors = {name: tensor.to(device) for name, tensor in read_tensors(content).items()}
        # Only the states go to the device; ids, mask and map are small, and are moved with the batch.
        layers = [(tensors[f"key.{number}"], tensors[f"value.{number}"]) for number in range(shape.layers)]
        ids, mask, token_map = (tensors[name].cpu() for name in ROWS)
        return cls(layers, ids, mask, token_map, manifest["sharer"], address)


def _read_manifest(folder: Path) -> dict[str, Any]:
    for name in (MANIFEST, STATES):
        if not (folder / name).is_file():
            raise RefusedError(
                f"A Sharer's cache must be a folder with {STATES} and {MANIFEST}",
                f"no {name} in {folder.name}/",
                "Wait until it is written, or write it again",
            )
    manifest = read_object(folder / MANIFEST, WRITE_AGAIN)
    version = (manifest.get("format"), manifest.get("version"))
    if version != (FORMAT, VERSION):
        raise RefusedError(
            f"A Sharer's cache must be {FORMAT}, version {VERSION}", version, "Write it with the same version of c2c"
        )
    # Keys and their kinds, then the range of each number: they decide how much is allocated
    check_keys(MANIFEST, manifest, MANIFEST_KEYS, optional=LATER_KEYS, remedy=WRITE_AGAIN)
    check_keys(f"shape in {MANIFEST}", manifest["shape"], COUNT, remedy=WRITE_AGAIN)
    check_keys(f"sha256 in {MANIFEST}", manifest["sha256"], {STATES: str}, remedy=WRITE_AGAIN)
    check_counts(MANIFEST, manifest, remedy=WRITE_AGAIN)
    check_counts(f"shape in {MANIFEST}", manifest["shape"], most=LARGEST_COUNT, remedy=WRITE_AGAIN)
    check_choice(f"dtype in {MANIFEST}", manifest["dtype"], NUMBERS.values())
    check_kinds(f"sharer in {MANIFEST}", manifest["sharer"], MODEL_KINDS, nullable=True, remedy=WRITE_AGAIN)
    return manifest


def _check_header(tensors: Mapping[str, Form], manifest: Mapping[str, Any], shape: CacheShape) -> None:
    states = (manifest["rows"], shape.heads, manifest["tokens"], shape.head_dim)
    # A number of tensors that the file does not hold is refused before their names are written out.
    wrong = [] if len(tensors) == 2 * shape.layers + len(ROWS) else [f"{len(tensors)} tensors, for {shape.layers} layers"]
    layers = range(min(shape.layers, len(tensors)))
    expected = {f"{half}.{layer}": states for layer in layers for half in ("key", "value")}
    rows = dict.fromkeys(("input_ids", "attention_mask"), (manifest["rows"], manifest["tokens"]))
    wrong += [f"{name:.80}" for name in sorted({*expected, *ROWS} ^ tensors.keys())]
    wrong += [
        f"{name} is {tensors[name].shape}, expected {excerpt(needed)}"
        for name, needed in {**expected, **rows}.items()
        if name in tensors and tensors[name].shape != needed
    ]
    wrong += [
        f"{name} is {form.dtype:.20}, expected {manifest['dtype']}"
        for name, form in tensors.items()
        if name in expected and form.dtype != manifest["dtype"]
    ]
    if wrong:
        raise RefusedError(f"{STATES} must hold what the manifest says", wrong, WRITE_AGAIN)
