"""Signed messages: with a key, whatever was altered, and whatever was not signed, is refused."""

from __future__ import annotations

import hmac
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c import RefusedError, SharerCache, SharerInput
from c2c.checkpoints import signing
from c2c.checkpoints.sharer_cache import MANIFEST, STATES
from c2c.checkpoints.signing import Envelope, SigningKey, contract_hash
from c2c.cli.main import main
from c2c.provenance import file_hash

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ENVELOPE = Envelope(sender="alice", receiver="carol", contract=contract_hash({"fuser": {"sizes": []}}), subject="run 7")


@pytest.fixture
def cache(open_model, prompt_ids) -> SharerCache:
    prefix = prompt_ids[:, :-1]
    return SharerCache.of_model(open_model.sharers[0], SharerInput.of_receiver(prefix, torch.ones_like(prefix)))


@pytest.fixture
def signed(cache, tmp_path) -> Path:
    cache.save(tmp_path / "cache", key=KEY, envelope=ENVELOPE)
    return tmp_path / "cache"


def rewrite(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def alter_a_tensor(folder: Path) -> None:
    """Change one number, and the hash in the manifest with it."""
    tensors = load_file(folder / STATES)
    tensors["value.0"][0, 0, 0, 0] += 1
    save_file(tensors, folder / STATES)
    rewrite(folder, sha256={STATES: file_hash(folder / STATES)})


def rename_the_sender(folder: Path) -> None:
    rewrite(folder, envelope=Envelope(**{**ENVELOPE.to_dict(), "sender": "mallory"}).to_dict())


def drop(key: str):
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        del manifest[key]
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return spoil


def change_the_model(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    rewrite(folder, sharer={**manifest["sharer"], "weights_sha256": "0" * 64})


def test_a_signed_message_is_read_bit_for_bit_with_its_envelope(cache, signed) -> None:
    loaded = SharerCache.load(signed, key=KEY, envelope=ENVELOPE)
    for old, new in zip(cache.layers, loaded.layers, strict=True):
        assert torch.equal(old[0], new[0]) and torch.equal(old[1], new[1])
    assert loaded.envelope == ENVELOPE


ALTERED = {
    "a tensor": alter_a_tensor,
    "the sender": rename_the_sender,
    "the model of the contract": change_the_model,
    "no envelope": drop("envelope"),
    "the number of rows": lambda folder: rewrite(folder, rows=1),
    "a signature of zeros": lambda folder: rewrite(folder, signature="0" * 64),
    "a signature that is no ASCII": lambda folder: rewrite(folder, signature="ä"),
}


@pytest.mark.parametrize("spoil", ALTERED.values(), ids=list(ALTERED))
def test_with_the_key_an_altered_message_is_refused(signed, spoil) -> None:
    spoil(signed)
    with pytest.raises(RefusedError, match="must be as its sender signed it"):
        SharerCache.load(signed, key=KEY)


def test_what_the_key_finds_the_hash_in_the_same_folder_does_not(signed) -> None:
    alter_a_tensor(signed)
    assert SharerCache.load(signed).envelope == ENVELOPE


def test_a_tensor_that_changed_under_a_right_signature_is_refused(signed) -> None:
    manifest = (signed / MANIFEST).read_text()
    alter_a_tensor(signed)
    (signed / MANIFEST).write_text(manifest)
    with pytest.raises(RefusedError, match="must be the file that the manifest names"):
        SharerCache.load(signed, key=KEY)


def test_a_missing_signature_is_refused_where_a_key_is_given(cache, signed, tmp_path) -> None:
    drop("signature")(signed)
    cache.save(tmp_path / "unsigned", envelope=ENVELOPE)
    for folder in (signed, tmp_path / "unsigned"):
        with pytest.raises(RefusedError, match="must be signed where a key is given; received 'no signature'"):
            SharerCache.load(folder, key=KEY)
        assert SharerCache.load(folder).envelope == ENVELOPE


def test_another_key_is_refused(signed) -> None:
    with pytest.raises(RefusedError, match="must be as its sender signed it"):
        SharerCache.load(signed, key=OTHER_KEY)


@pytest.mark.parametrize("field", ["sender", "receiver", "contract", "subject"])
def test_a_message_for_another_place_is_refused_though_its_signature_fits(signed, field) -> None:
    with pytest.raises(RefusedError, match=f"{field}: expected 'another', found"):
        SharerCache.load(signed, key=KEY, envelope=Envelope(**{field: "another"}))
    assert SharerCache.load(signed, key=KEY, envelope=Envelope(**{field: getattr(ENVELOPE, field)}))


def test_a_message_without_envelope_and_key_is_written_as_before(cache, tmp_path) -> None:
    cache.save(tmp_path / "cache")
    assert not {"envelope", "signature"} & json.loads((tmp_path / "cache" / MANIFEST).read_text()).keys()
    assert SharerCache.load(tmp_path / "cache").envelope == Envelope()


def test_a_save_names_the_hash_of_the_manifest(cache, tmp_path) -> None:
    digest = cache.save(tmp_path / "cache", key=KEY)
    assert digest == file_hash(tmp_path / "cache" / MANIFEST)


def test_signatures_are_compared_in_constant_time(signed, monkeypatch) -> None:
    lengths = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: lengths.append([*map(len, pair)]) or compare(*pair))
    assert SharerCache.load(signed, key=KEY)
    assert lengths == [[64, 64]]


def test_the_key_is_in_no_file_and_in_no_text(cache, tmp_path) -> None:
    secret = b"a secret of at least thirty-two bytes"
    key = SigningKey(secret)
    cache.save(tmp_path / "cache", key=key, envelope=ENVELOPE)
    written = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.is_file())
    assert secret not in written and secret.hex().encode() not in written
    assert secret.decode() not in f"{key} {key!r} {vars(type(key))}"
    with pytest.raises(RefusedError, match="A key must stay in its process"):
        pickle.dumps(key)
    with pytest.raises(RefusedError) as refusal:
        SigningKey(b"short secret")
    assert "short secret" not in str(refusal.value)


def test_a_key_comes_from_bytes_a_variable_or_a_file_and_is_the_same(signed, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("C2C_TEST_KEY", KEY.decode())
    (tmp_path / "key").write_bytes(KEY + b"\n")
    (tmp_path / "key").chmod(0o600)
    for source in (KEY, SigningKey(KEY), "env:C2C_TEST_KEY", tmp_path / "key", str(tmp_path / "key")):
        assert SharerCache.load(signed, key=source).envelope == ENVELOPE


def test_a_key_that_is_not_there_or_open_to_others_is_refused_before_anything_is_written(
    cache, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv("C2C_TEST_KEY", raising=False)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o640)
    for source, rule in (
        ("env:C2C_TEST_KEY", "environment variable of a key must be set"),
        (tmp_path / "absent", "file of a key must be there"),
        (tmp_path / "key", "must be closed to other users; received .*mode 640"),
        (b"short", "must be at least 32 bytes; received '5 bytes'"),
    ):
        with pytest.raises(RefusedError, match=rule):
            cache.save(tmp_path / "cache", key=source)
    assert not (tmp_path / "cache").exists()


def test_an_envelope_of_another_kind_is_refused(signed) -> None:
    rewrite(signed, envelope={"sender": 5})
    with pytest.raises(RefusedError, match="An envelope must hold sender, receiver, contract, subject"):
        SharerCache.load(signed)


def test_a_signature_of_another_use_of_the_key_does_not_fit(signed) -> None:
    manifest = json.loads((signed / MANIFEST).read_text())
    del manifest["signature"]
    plain = hmac.new(KEY, signing.canonical(manifest), "sha256").hexdigest()
    rewrite(signed, signature=plain)
    with pytest.raises(RefusedError, match="must be as its sender signed it"):
        SharerCache.load(signed, key=KEY)


def test_the_command_checks_a_cache_and_names_no_key(signed, monkeypatch, capsys) -> None:
    monkeypatch.setenv("C2C_TEST_KEY", KEY.decode())
    assert main(["check-cache", str(signed), "--key", "env:C2C_TEST_KEY", "--sender", "alice"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["sender"], about["receiver"], about["signature_checked"]) == ("alice", "carol", True)
    assert main(["check-cache", str(signed), "--key", "env:C2C_TEST_KEY", "--sender", "bob"]) == 2
    alter_a_tensor(signed)
    assert main(["check-cache", str(signed)]) == 0
    assert main(["check-cache", str(signed), "--key", "env:C2C_TEST_KEY"]) == 2
    printed = capsys.readouterr()
    assert "must be as its sender signed it" in printed.err
    assert KEY.decode() not in printed.err + printed.out
