"""Reads the config file: every mistake at once, each with its place, its key and what to write instead.

Text -> nodes that know their place -> overrides from the environment laid over them -> settings, by the types in
`proxy.settings` -> secrets from their files -> checks of what must fit together.

YAML guesses types from spelling (`NO` is false, `010` is eight). Here the setting's type alone decides what a word
means. A value that is wrong is reported and replaced by its default, so that the later checks see whole settings;
they keep silent about what was wrong by itself.
"""

import re
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import msgspec

from proxy.config_checks import check
from proxy.config_nodes import MAX_TEXT, in_file, line_and_column, read_text
from proxy.config_overrides import Override, overrides
from proxy.config_problems import BadConfig, Findings, Place, problem_at
from proxy.config_reader import Reader
from proxy.policy.routes import route_name
from proxy.setting_types import shape_of
from proxy.settings import Route, Settings
from proxy.units import render_size

_MAX_SECRET = 64 * 1024


def _with_secrets(settings: Settings, found: Findings, read: Callable[[str], str]) -> Settings:
    """The settings with the contents of `admin.token_file` and `redis.password_file` in their places."""
    admin, redis = settings.admin, settings.redis
    if admin.token_file is not None:
        token = _secret(("admin.token", admin.token), admin.token_file, found, read)
        admin = msgspec.structs.replace(admin, token=token)
    if redis is not None and redis.password_file is not None:
        password = _secret(("redis.password", redis.password), redis.password_file, found, read)
        redis = msgspec.structs.replace(redis, password=password)
    return msgspec.structs.replace(settings, admin=admin, redis=redis)


def _secret(
    setting: tuple[str, str | None], name: str, found: Findings, read: Callable[[str], str]
) -> str | None:
    path, value = setting
    if value is not None:
        found.blame(f"{path}_file", f"give {path.rpartition('.')[2]} or this, not both", path)
        return value
    try:
        text = read(name).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        found.blame(f"{path}_file", f"{name} cannot be read: {reason}", path)
        return None
    if not text or re.search(r"[\x00-\x1f\x7f]", text):
        found.blame(f"{path}_file", f"{name} must hold one line", path)
    return text


def parse(text: str, *, name: str, environ: Mapping[str, str], read: Callable[[str], str]) -> Settings:
    """The settings in `text`, a file called `name`. Every route of theirs has a name.

    `read` returns what a `*_file` holds, or raises OSError or ValueError. Raises BadConfig.
    """
    found = Findings(Place(file=name, line=1, col=1))
    root = read_text(text.removeprefix("\ufeff"), name, found)
    whole = shape_of(Settings)
    for variable in overrides(environ, root):
        override = Override(variable, environ[variable], found)
        root = override.over(root, whole, override.keys, "")
    settings = Reader(found, environ).read(root, whole, "", whole.blank())
    settings = _with_secrets(settings, found, read)
    check(settings, found)
    if found.problems:
        raise BadConfig(found.problems)
    return msgspec.structs.replace(settings, routes=_named(settings.routes))


def load(path: str, environ: Mapping[str, str]) -> Settings:
    """The settings in the file at `path`. Raises BadConfig."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise BadConfig([problem_at(Place(file=path), "", f"cannot be read: {error.strerror}")]) from error
    return parse(decode(content, name=path), name=path, environ=environ, read=read_secret)


def decode(content: bytes, *, name: str) -> str:
    """The file's text. Raises BadConfig where it is not UTF-8."""
    if len(content) > MAX_TEXT:
        raise BadConfig([problem_at(Place(file=name, line=1, col=1), "", "is larger than 1MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        place = in_file(name)(*line_and_column(before, len(before)))
        raise BadConfig([problem_at(place, "", "is not UTF-8 from here on")]) from error


def read_secret(path: str) -> str:
    """What a `*_file` holds. Raises OSError, ValueError."""
    with Path(path).open("rb") as file:
        content = file.read(_MAX_SECRET + 1)
    if len(content) > _MAX_SECRET:
        raise ValueError(f"is larger than {render_size(_MAX_SECRET)}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def _named(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    taken = {route.name for route in routes}
    named = []
    for route in routes:
        name = route.name
        if name is None:
            base = route_name(route.match)
            tries = (base if n == 1 else f"{base[:58]}-{n}" for n in count(1))
            name = next(each for each in tries if each not in taken)
            taken.add(name)
        named.append(msgspec.structs.replace(route, name=name))
    return tuple(named)
