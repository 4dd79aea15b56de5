"""What endpoints share: the state, the user, and the body of a request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.api.oidc import PROVIDER_ID
from openeo_cloudmask.backend.api.state import State

MAX_TEXT = 20_000
"""Characters of a title or description that are stored."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class CurrentUser:
    """Who sent the request."""

    id: str
    name: str


def get_state(request: Request) -> State:
    """Return the server's state."""
    state: State = request.app.state.backend
    return state


StateOf = Annotated[State, Depends(get_state)]


def get_user(request: Request, state: StateOf) -> CurrentUser:
    """Return whose bearer token the request carries.

    Raises:
        ApiError: it carries none, or it is not valid.
    """
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if not header:
        raise ApiError("AuthenticationRequired", "log in first; the request carries no token")
    if scheme.lower() != "bearer" or not value:
        raise ApiError("AuthenticationSchemeInvalid", "expected the header Authorization: Bearer")
    kind, _, rest = value.strip().partition("/")
    provider, _, token = rest.partition("/")
    if kind == "basic" and provider == "" and token:
        return CurrentUser(*state.users.check_token(token))
    if kind == "oidc" and provider == PROVIDER_ID and state.oidc is not None and token:
        subject, name = state.oidc.check_token(token)
        return CurrentUser(*state.users.find_oidc(state.oidc.issuer, subject, name))
    raise ApiError(
        "TokenInvalid", "the token is not of a kind this server knows; expected basic//<token>"
    )


UserOf = Annotated[CurrentUser, Depends(get_user)]


async def get_body(request: Request, _: UserOf) -> dict[str, Any]:
    """Return the request's body, as ``read_json`` does; only of somebody who is logged in."""
    return await read_json(request)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the request's body, a JSON object.

    Raises:
        ApiError: it is invalid, or holds what cannot be stored.
    """
    kind = request.headers.get("content-type", "application/json")
    if "json" not in kind.lower():
        raise ApiError("ContentTypeInvalid", f"the media type is {kind!r}; expected JSON")
    content = await request.body()
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
        _check_storable(body)
    except RecursionError:
        raise ApiError("ProcessGraphInvalid", "the request is nested too deeply") from None
    except ValueError as err:
        reason = f": {err}" if isinstance(err, _NotStorableError) else ""
        raise ApiError("ProcessInvalid", f"the request's body is no JSON{reason}") from None
    if not isinstance(body, dict):
        raise ApiError("ProcessInvalid", "the request's body is no JSON object")
    return body


class _NotStorableError(ValueError):
    """A value that JSON's form allows and that no database keeps."""


def _check_storable(body: object) -> None:
    """Raise an error for infinite numbers, halves of characters, and NUL characters."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        raise _NotStorableError("a text holds half of a character (a lone surrogate)") from None
    except ValueError:
        raise _NotStorableError("a number is too large") from None
    if _NUL.search(text):
        raise _NotStorableError("a text holds a NUL character")


BodyOf = Annotated[dict[str, Any], Depends(get_body)]


def read_text(body: dict[str, Any], name: str) -> str | None:
    """Return an optional text of a body.

    Raises:
        ApiError: it is no text, or too long.
    """
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ApiError("PropertyNotEditable", f"{name} must be text up to {MAX_TEXT} characters")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
