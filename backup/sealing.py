"""Files encrypted before they leave this machine, with a key for each tenant.

A *keyring* holds master keys by their ids, and says which one is current. A tenant's key is derived
from a master key and the tenant's name, so that one tenant's says nothing about another's; a file's
from that and a random salt. Rotation is a new master key that is made current: what was sealed
under an older one is opened for as long as that is in the ring.

A sealed file: `LFSEAL1`, a zero byte, the salt (16 bytes), then parts. Each part is one AES-256-GCM
message of at most 1 MiB and its tag. Its nonce is the part's number (11 bytes, big-endian) and one
byte that is 1 in the last part: a file that is cut off, extended or put together otherwise is not
opened. The associated data is everything before the first part.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from backup.settings import reveal

_MAGIC: Final = b"LFSEAL1\0"
_SALT: Final = 16
_PART: Final = 1 << 20
_TAG: Final = 16
_KEY: Final = 32
COMMAND_TIMEOUT: Final = 30.0
"""Seconds for the command that gives a keyring."""


class BadKeys(Exception):
    """The keys cannot be had; the message says why, and never what they are."""


class NotOpened(Exception):
    """A sealed file cannot be opened with the key that was given: it is another one's, or the file
    is not what was sealed."""


class Key(BaseModel):
    """A tenant's key (base64 of 32 bytes) and the id of the master key that it is derived from."""

    model_config = ConfigDict(frozen=True)

    id: str
    value: SecretStr

    @field_serializer("value")
    def _hide(self, value: SecretStr, info: SerializationInfo) -> str:
        return reveal(value, info)

    def raw(self) -> bytes:
        return base64.b64decode(self.value.get_secret_value())


class Keyring(BaseModel):
    """Master keys by id, each base64 of 32 random bytes, and the id of the one to seal with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: str
    keys: Mapping[str, SecretStr] = Field(min_length=1)

    @field_validator("keys")
    @classmethod
    def _long(cls, value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for id, key in value.items():
            try:
                size = len(base64.b64decode(key.get_secret_value(), validate=True))
            except ValueError:
                size = 0
            if size != _KEY:
                raise ValueError(f"key {id!r} is not the base64 of {_KEY} bytes")
        return value

    @model_validator(mode="after")
    def _there(self) -> Self:
        if self.current not in self.keys:
            raise ValueError(f"the current key {self.current!r} is not among the keys")
        return self

    def for_tenant(self, tenant: str, id: str | None = None) -> Key:
        """A tenant's key, under the current master key or the one with this id.

        Raises:
            BadKeys: there is no master key of that id.
        """
        wanted = self.current if id is None else id
        master = self.keys.get(wanted)
        if master is None:
            have = ", ".join(sorted(self.keys))
            raise BadKeys(f"it was sealed under key {wanted!r}, and the keyring has only {have}")
        raw = base64.b64decode(master.get_secret_value())
        value = _derived(raw, b"", f"litefleet tenant key\0{tenant}".encode())
        return Key(id=wanted, value=SecretStr(base64.b64encode(value).decode()))


class KeySource(BaseModel):
    """Where a keyring comes from: a ``file``, the environment variable ``env``, or what
    ``command`` prints. It is read again whenever it is needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = None
    env: str | None = None
    command: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file, self.env, self.command).count(None) != 2 or self.command == ():
            raise ValueError("name one of file, env and command")
        return self

    def read(self) -> Keyring:
        """Raises `BadKeys`."""
        text, name = self._text()
        return parse_keyring(text, name)

    def _text(self) -> tuple[str, str]:
        if self.file is not None:
            try:
                return self.file.read_text(), f"the keyring {self.file}"
            except (OSError, UnicodeDecodeError) as error:
                raise BadKeys(f"the keyring {self.file} cannot be read: {error}") from error
        if self.env is not None:
            found = os.environ.get(self.env)
            if found is None:
                raise BadKeys(f"the environment has no {self.env}, where the keyring should be")
            return found, f"the keyring in {self.env}"
        assert self.command is not None
        words = self.command[0]
        try:
            done = subprocess.run(
                self.command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BadKeys(f"{words} did not give the keyring: {type(error).__name__}") from error
        if done.returncode != 0:
            # Its standard error is for people; its output may be half a key.
            said = done.stderr.strip().splitlines()
            more = f": {said[-1]}" if said else ""
            raise BadKeys(
                f"{words}, which should give the keyring, ended with {done.returncode}{more}"
            )
        return done.stdout, f"the keyring that {words} gives"


def parse_keyring(text: str, name: str) -> Keyring:
    """Raises `BadKeys`."""
    try:
        return Keyring.model_validate(json.loads(text))
    except ValidationError as error:
        raise BadKeys(f"{name} is none: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise BadKeys(f"{name} is no JSON") from error


def new_keyring(id: str) -> str:
    """A keyring with one new random master key, as JSON."""
    key = base64.b64encode(secrets.token_bytes(_KEY)).decode()
    return json.dumps({"current": id, "keys": {id: key}}, indent=2)


def seal(source: BinaryIO, target: BinaryIO, key: Key) -> None:
    """Write what ``source`` has to ``target``, sealed."""
    header = _MAGIC + secrets.token_bytes(_SALT)
    target.write(header)
    cipher = _cipher(key, header)
    for number, part, last in _parts(source, _PART):
        target.write(cipher.encrypt(_nonce(number, last), part, header))


def unseal(source: BinaryIO, target: BinaryIO, key: Key) -> None:
    """The reverse. What was written to ``target`` counts only once this has returned.

    Raises:
        NotOpened: the key is another one, or the file is not whole.
    """
    header = source.read(len(_MAGIC) + _SALT)
    if len(header) != len(_MAGIC) + _SALT or not header.startswith(_MAGIC):
        raise NotOpened("it is no sealed file")
    cipher = _cipher(key, header)
    for number, part, last in _parts(source, _PART + _TAG):
        try:
            target.write(cipher.decrypt(_nonce(number, last), part, header))
        except InvalidTag:
            what = "the key is another one, or it" if number == 0 else f"part {number} of it"
            raise NotOpened(f"{what} is not what was sealed") from None


def _parts(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """The parts of a file, at least one, each with its number and whether it is the last."""
    number, part = 0, source.read(size)
    while True:
        following = source.read(size)
        yield number, part, not following
        if not following:
            return
        number, part = number + 1, following


def _cipher(key: Key, header: bytes) -> AESGCM:
    return AESGCM(_derived(key.raw(), header[len(_MAGIC) :], b"litefleet sealed file"))


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY, salt=salt or None, info=info).derive(key)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
