"""A client of the admin port: each failure is one sentence that says what to check."""
# ruff: noqa: PLC0415 - the HTTP client is loaded when it is used, so that `--help` stays quick

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

TOKEN_VARIABLE = "CROWDGATE_ADMIN_TOKEN"  # noqa: S105 - a variable's name
_DEFAULT = "http://127.0.0.1:9901"
# Two thousand routes' figures are some 2 MB.
_MAX_ANSWER = 64 * 1024 * 1024
# These come with what was done and what was not.
_TOLD = frozenset({200, 202, 422, 502})

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the admin port answered."""

    status: int
    document: dict[str, Any]


def admin_option(command: F) -> F:
    """`--admin URL`."""
    option = click.option(
        "--admin",
        metavar="URL",
        default=_DEFAULT,
        show_default=True,
        callback=lambda _context, _option, text: _base(text),
        help="The proxy's admin port.",
    )
    return option(command)


def token_option(command: F) -> F:
    """`--token-file FILE`, handed over as `token`."""
    option = click.option(
        "--token-file",
        "token",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=lambda _context, _option, file: _token(file),
        help=f"Holds the admin token; so does ${TOKEN_VARIABLE}.",
    )
    return option(command)


def ask(admin: str, path: str, *, body: object = None, token: str = "", timeout_s: float = 10.0) -> Reply:
    """GET, or POST where there is a body. Raises ClickException, whose exit code is 1."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    class _NoRedirect(urllib.request.HTTPRedirectHandler):
        """The token is for this host alone."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(admin + path)  # noqa: S310 - `_base` lets http and https through alone
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        # http.client sends Latin-1; this way the bytes are UTF-8.
        request.add_header("Authorization", f"Bearer {token}".encode().decode("latin-1"))
    # No proxies: the variables for the way to the internet are not about a sidecar.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return _reply(admin + path, answer.status, answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            return _reply(admin + path, error.code, error.read(_MAX_ANSWER))
    except (OSError, HTTPException) as error:
        raise click.ClickException(
            f"cannot reach the admin port at {admin}: {_why(error, timeout_s)}; "
            "check that the proxy runs and that this is its admin.listen"
        ) from error


def _reply(url: str, status: int, body: bytes) -> Reply:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise strange(url, status)
    if status in _TOLD:
        return Reply(status=status, document=document)
    detail = document.get("detail")
    if not isinstance(detail, str) or status == 404:
        raise strange(url, status)
    if status in {401, 403}:
        detail += f" (--token-file or ${TOKEN_VARIABLE})" if status == 401 else ""
    raise click.ClickException(detail)


def strange(url: str, status: int) -> click.ClickException:
    """Something answers there, but no admin port."""
    return click.ClickException(
        f"{url} answers {status}, not as an admin port does: "
        "check that --admin names admin.listen and not the port for clients"
    )


def _why(error: Exception, timeout_s: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout_s:g}s"
    if isinstance(cause, OSError):
        return (cause.strerror or str(cause)).lower()
    return str(cause) or type(error).__name__


def _base(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = None
    if not good or "@" in parts.netloc or parts.query or parts.fragment:
        raise click.BadParameter(f"must be a URL such as {_DEFAULT}, not {text}")
    return url.rstrip("/")


def _token(file: Path | None) -> str:
    try:
        text = file.read_text("utf-8") if file else os.environ.get(TOKEN_VARIABLE, "")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"cannot be read: {error}") from error
    token = text.strip()
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in token):
        raise click.BadParameter("the token must be one line")
    return token
