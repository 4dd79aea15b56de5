"""Passwords, tokens, signatures and encrypted keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from typing import Any

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.errors import OptionError

MIN_PASSWORD = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password.

    Raises:
        OptionError: it is too short.
    """
    from argon2 import PasswordHasher

    if len(password) < MIN_PASSWORD:
        raise OptionError(f"the password is shorter than {MIN_PASSWORD} characters")
    return PasswordHasher().hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Return whether ``password`` has the hash ``stored``."""
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False


def check_user_name(name: str) -> str:
    """Return ``name`` if it is fit to be a user's.

    Raises:
        OptionError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"user name {name!r} is not allowed; expected up to 64 letters, digits, _ . @ and -, "
            "beginning with a letter or digit"
        )
    return name


def make_token() -> str:
    """Return a bearer token that cannot be guessed."""
    return secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """Return what is stored of a token: its SHA-256, of which the token cannot be had back."""
    return hashlib.sha256(token.encode()).hexdigest()


def sign(secret: bytes, *parts: str) -> str:
    """Return a signature over ``parts`` in their order."""
    message = json.dumps(parts).encode()
    return hmac.new(_derive(secret, "links"), message, hashlib.sha256).hexdigest()


def signature_holds(secret: bytes, signature: str, *parts: str) -> bool:
    """Return whether ``signature`` is that of ``parts``, in constant time."""
    return hmac.compare_digest(sign(secret, *parts).encode(), signature.encode())


def seal(secret: bytes, value: dict[str, Any]) -> str:
    """Return ``value`` encrypted."""
    text: str = _fernet(secret).encrypt(json.dumps(value).encode()).decode()
    return text


def unseal(secret: bytes, text: str) -> dict[str, Any]:
    """Return what ``seal`` encrypted.

    Raises:
        ApiError: it was encrypted with another key.
    """
    from cryptography.fernet import InvalidToken

    try:
        value: dict[str, Any] = json.loads(_fernet(secret).decrypt(text.encode()))
    except InvalidToken:
        raise ApiError(
            "CredentialsInvalid",
            "the keys of this job were stored by a server with another secret; give them again",
        ) from None
    return value


def _derive(secret: bytes, purpose: str) -> bytes:
    return hashlib.sha256(secret + b"|" + purpose.encode()).digest()


def _fernet(secret: bytes) -> Any:  # noqa: ANN401
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(_derive(secret, "keys")))
