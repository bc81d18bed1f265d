"""CURVE key pairs, and the files of a farm.

    config/farms/NAME/              0700
        access.json                 farm, address, server_key, ...: no secret
        authorized                  manager only: who may connect, one line per key
        keys/                       0700
            manager.key             manager only, 0600
            client.key worker.key … this machine's own key for each role it has, 0600

A machine that joined has the same folder without `authorized` and `keys/manager.key`.
A `.key` file holds one line, `public secret`, both in the shell-safe spelling (43 characters of base64).
In memory and in `Join` a public key is 40 characters of Z85, as ZeroMQ wants it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from computefarm.errors import Refused
from computefarm.home import check_secret, private_folder, write_secret

PublicKey = str
"""Z85, 40 characters."""


class KeyPair(msgspec.Struct, frozen=True):
    """A public key and the secret that proves it; both Z85."""

    public: PublicKey
    secret: str

    @classmethod
    def make(cls) -> KeyPair:
        """Return a new random pair."""
        check_curve()
        public, secret = zmq.curve_keypair()
        return cls(public=public.decode(), secret=secret.decode())

    @classmethod
    def from_secret(cls, secret: str) -> KeyPair:
        """Return the pair that a Z85 secret key belongs to."""
        check_curve()
        return cls(public=zmq.curve_public(secret.encode()).decode(), secret=secret)

    def __repr__(self) -> str:
        return f"KeyPair({spell(self.public)})"

    __str__ = __repr__


def check_curve() -> None:
    """Refuse to go on with a ZeroMQ that cannot encrypt."""
    if not zmq.has("curve"):
        raise Refused(
            f"ZeroMQ {zmq.zmq_version()} of {zmq.__file__} was built without CURVE, so it cannot encrypt",
            hint="pip install --force-reinstall --only-binary :all: pyzmq",
        )


def spell(key: PublicKey) -> str:
    """Return the spelling of a Z85 key for files, screens and shells (43 letters, digits, `-` and `_`)."""
    return base64.urlsafe_b64encode(z85.decode(key)).decode().rstrip("=")


def fingerprint(key: PublicKey) -> str:
    """Return what people compare: the sha256 of a public key, as ssh spells it."""
    digest = hashlib.sha256(z85.decode(key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read_key(text: str) -> PublicKey:
    """Return the Z85 key that `text` spells in either way; raise `ValueError` otherwise."""
    try:
        if len(text) == 43:
            return z85.encode(base64.b64decode(text + "=", altchars=b"-_", validate=True)).decode()
        if len(text) == 40 and len(z85.decode(text)) == 32 and z85.encode(z85.decode(text)).decode() == text:
            return text
    except (ValueError, KeyError, binascii.Error, OverflowError) as error:
        raise ValueError(f"not a key: {text!r}") from error
    raise ValueError(f"not a key: {text!r} (43 letters, digits, - and _ were expected)")


def save_keys(path: Path, keys: KeyPair) -> None:
    """Write a pair to `path` (0600), in a folder of mode 0700."""
    private_folder(path.parent)
    write_secret(path, f"{spell(keys.public)} {spell(keys.secret)}\n".encode())


def load_keys(path: Path) -> KeyPair:
    """Return the pair kept at `path`; refuse one that others could have read or changed."""
    check_secret(path.parent)
    check_secret(path)
    try:
        public, secret = (read_key(word) for word in path.read_text().split())
        keys = KeyPair.from_secret(secret)
        if keys.public != public:
            raise ValueError("the halves do not belong together")
    except (OSError, ValueError) as error:
        raise Refused(
            f"{path} is not a key file: {error}",
            hint=f"rm {path}    # then start again (or join the farm again) to get a new key",
        ) from error
    return keys


def ensure_keys(path: Path) -> KeyPair:
    """Return the pair kept at `path`, making it first where there is none."""
    if not path.exists():
        save_keys(path, KeyPair.make())
    return load_keys(path)
