"""Sealed files: opened by their key alone, and only whole; and where keys come from."""

from __future__ import annotations

import base64
import io
import json
import secrets
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from backup import copies, sealing
from backup.copies import BadCopy, Copy
from backup.memory import MemoryStore
from backup.sealing import BadKeys, Key, Keyring, KeySource, NotOpened, parse_keyring, seal, unseal


def ring(*ids: str, current: str | None = None) -> Keyring:
    keys = {id: SecretStr(base64.b64encode(secrets.token_bytes(32)).decode()) for id in ids}
    return Keyring(current=current or ids[-1], keys=keys)


def sealed(body: bytes, key: Key) -> bytes:
    target = io.BytesIO()
    seal(io.BytesIO(body), target, key)
    return target.getvalue()


def opened(body: bytes, key: Key) -> bytes:
    target = io.BytesIO()
    unseal(io.BytesIO(body), target, key)
    return target.getvalue()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_PART", 64)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 1000])
def test_what_was_sealed_is_opened(size: int) -> None:
    body, key = secrets.token_bytes(size), ring("a").for_tenant("t")
    first, second = sealed(body, key), sealed(body, key)
    assert opened(first, key) == body
    assert first != second  # a salt of its own
    assert size < 16 or body[:16] not in first


def test_any_change_is_noticed() -> None:
    key = ring("a").for_tenant("t")
    body = sealed(secrets.token_bytes(200), key)
    header, part = 24, 64 + 16
    parts = [body[header + n * part : header + (n + 1) * part] for n in range(4)]
    changed = {
        "a bit": body[:100] + bytes([body[100] ^ 1]) + body[101:],
        "the salt": body[:10] + bytes([body[10] ^ 1]) + body[11:],
        "cut off between parts": body[: header + part],
        "cut off in a part": body[:-5],
        "only the header": body[:header],
        "half a header": body[:7],
        "longer": body + body[header : header + part],
        "parts swapped": body[:header] + parts[1] + parts[0] + parts[2] + parts[3],
        "a part left out": body[:header] + parts[0] + parts[2] + parts[3],
        "plain": b"x" * 300,
        "empty": b"",
    }
    for other in changed.values():
        with pytest.raises(NotOpened):
            opened(other, key)


def test_a_key_opens_what_is_its_tenants_only() -> None:
    keyring = ring("a", "b")
    body = sealed(b"secret", keyring.for_tenant("t"))
    assert opened(body, keyring.for_tenant("t", "b")) == b"secret"
    for other in (
        keyring.for_tenant("u"),
        keyring.for_tenant("t", "a"),
        ring("b").for_tenant("t"),
    ):
        with pytest.raises(NotOpened, match="key is another one"):
            opened(body, other)


def test_a_keyring_that_lost_a_key_says_which() -> None:
    with pytest.raises(BadKeys, match="sealed under key 'old', and the keyring has only new"):
        ring("new").for_tenant("t", "old")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "is no JSON"),
        ('{"current": "a", "keys": {}}', "at least 1"),
        ('{"current": "a", "keys": {"a": "c2hvcnQ="}}', "not the base64 of 32 bytes"),
        ('{"current": "a", "keys": {"a": "!"}}', "not the base64 of 32 bytes"),
    ],
)
def test_a_bad_keyring_is_refused_without_its_secrets(text: str, said: str) -> None:
    with pytest.raises(BadKeys, match=said) as raised:
        parse_keyring(text, "the keyring")
    assert "c2hvcnQ" not in str(raised.value)


def test_the_current_key_must_be_there() -> None:
    text = json.loads(sealing.new_keyring("a")) | {"current": "b"}
    with pytest.raises(BadKeys, match="current key 'b' is not among"):
        parse_keyring(json.dumps(text), "it")


def test_keys_come_from_a_file_the_environment_or_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sealing.new_keyring("a")
    file = tmp_path / "ring.json"
    with pytest.raises(BadKeys, match="cannot be read"):
        KeySource(file=file).read()
    with pytest.raises(BadKeys, match="environment has no RING"):
        KeySource(env="RING").read()
    file.write_text(text)
    monkeypatch.setenv("RING", text)
    show = (sys.executable, "-c", f"print(open({str(file)!r}).read())")
    rings = [
        source.read()
        for source in (KeySource(file=file), KeySource(env="RING"), KeySource(command=show))
    ]
    assert rings[0] == rings[1] == rings[2]
    fails = "import sys; print('half a key'); print('no such vault', file=sys.stderr); sys.exit(3)"
    with pytest.raises(BadKeys, match="ended with 3: no such vault"):
        KeySource(command=(sys.executable, "-c", fails)).read()
    with pytest.raises(BadKeys, match="did not give the keyring"):
        KeySource(command=("/no/such/program",)).read()
    with pytest.raises(ValueError, match="name one"):
        KeySource(file=file, env="RING")


def test_no_secret_is_shown() -> None:
    keyring = ring("a")
    key = keyring.for_tenant("t")
    value = key.value.get_secret_value()
    assert value not in f"{key} {key!r} {key.model_dump_json()} {keyring}"


def about(made_at: float = 1.0) -> Copy:
    return Copy(
        tenant="t", lineage="l", epoch=1, sequence=1, chain="aa", made_at=made_at,
        sha256="", size=0, packed=0,
    )  # fmt: skip


def test_copies_through_a_rotation_and_a_loss(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    database.write_bytes(secrets.token_bytes(5000))
    store, keyring = MemoryStore(), ring("old", "new", current="old")
    plain = copies.put(store, database, about(1.0), tmp_path)
    first = copies.put(store, database, about(2.0), tmp_path, keyring.for_tenant("t"))
    rotated = keyring.model_copy(update={"current": "new"})
    second = copies.put(store, database, about(3.0), tmp_path, rotated.for_tenant("t"))
    assert [copy.key for copy in copies.read(store, "t")] == [None, "old", "new"]
    assert [name for name in store.objects if name.endswith(".sealed")] == [
        first.object,
        second.object,
    ]
    body = database.read_bytes()
    assert all(
        body[:64] not in stored for key, (stored, _) in store.objects.items() if "sealed" in key
    )
    for number, copy in enumerate((plain, first, second)):
        key = rotated.for_tenant("t", copy.key) if copy.key else None
        into = tmp_path / f"back-{number}.db"
        copies.fetch(store, copy, into, key)
        assert into.read_bytes() == body
    with pytest.raises(BadCopy, match="sealed under key 'old': it cannot be read without"):
        copies.fetch(store, first, tmp_path / "x.db")
    with pytest.raises(BadCopy, match="cannot be opened: the key is another one"):
        copies.fetch(store, first, tmp_path / "x.db", ring("old").for_tenant("t"))
    assert not list(tmp_path.glob("x.db*"))
    copies.remove(store, first)
    assert not [name for name in store.objects if first.name in name]
