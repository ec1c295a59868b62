"""Settings for people to see: as the file writes them, without the secrets."""

import re
from typing import Any

from proxy.config_reader import present
from proxy.setting_types import Kind, Shape, fields_of, shape_of
from proxy.settings import SECRET_URL, Settings
from proxy.units import render_duration, render_size


def redacted(settings: Settings) -> dict[str, Any]:
    """The settings as the file would have them, fit for JSON, for eyes that must not see the secrets."""
    shown: dict[str, Any] = show(settings, shape_of(Settings))
    return shown


def show(value: Any, shape: Shape) -> Any:
    """A value as the file would have it, in JSON's types; secrets are hidden."""
    match shape.kind:
        case Kind.TEXT if shape.secret:
            return None if value is None else _hidden(value, shape)
        case Kind.DURATION if value is not None:
            return render_duration(value)
        case Kind.SIZE if value is not None:
            return render_size(value)
        case Kind.LIST if not isinstance(value, str):
            return [show(each, present(shape.item)) for each in value]
        case Kind.TABLE:
            return {str(key): show(each, present(shape.item)) for key, each in value.items()}
        case Kind.GROUP if value is not None:
            fields = fields_of(shape.group).values()
            return {each.name: show(getattr(value, each.name), each.shape) for each in fields}
        case _:
            return value


def _hidden(secret: str, shape: Shape) -> str:
    if shape.tag == SECRET_URL:
        return ",".join(_masked(url) for url in re.split(r",(?=[a-z]+://)", secret))
    return "***"


def _masked(url: str) -> str:
    """The URL without its passwords. Too much is hidden rather than too little where it is malformed."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "***"
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    host = re.sub(r"((?:password|username)=)[^&]*", r"\1***", host)
    return f"{scheme}://{user + ':' if colon else ''}***@{host}" if at else f"{scheme}://{host}"
