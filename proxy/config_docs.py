"""What the settings' types say, for people and for editors: docs/configuration.md's reference and the JSON Schema.

`python -m proxy.config_docs --write` brings the reference up to date, `--check` fails where it is not.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_never

from proxy.config_shown import show
from proxy.docs_command import between, keep_up_to_date
from proxy.setting_types import Field, Kind, Shape, fields_of
from proxy.settings import Group, Settings
from proxy.units import DURATION_PATTERN, SIZE_PATTERN

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- begin: written by `python -m proxy.config_docs --write` -->\n"
END = "<!-- end -->"

# --- The reference ---


def reference() -> str:
    """One table for each mapping of the file."""
    return "\n".join(_section(path, group) for path, group in _groups("", Settings))


def page(text: str) -> str:
    """The page with its reference renewed. Raises ValueError where the markers are gone."""
    return between(text, BEGIN, END, f"\n{reference()}\n", name="the page")


def _groups(path: str, group: type[Group]) -> Iterator[tuple[str, type[Group]]]:
    yield path, group
    for each in fields_of(group).values():
        below = f"{path}.{each.name}" if path else each.name
        shape = each.shape
        if shape.kind is Kind.GROUP:
            yield from _groups(below, shape.group)
        elif shape.item and shape.item.kind is Kind.GROUP:
            yield from _groups(f"{below}[]", shape.item.group)


def _section(path: str, group: type[Group]) -> str:
    heading = f"### `{path}`" if path else "### The top level"
    rows = [_row(path, each) for each in fields_of(group).values()]
    table = "\n".join(["| Key | Type | Default | Meaning |", "|---|---|---|---|", *rows])
    return f"{heading}\n\n{(group.__doc__ or '').strip()}\n\n{table}\n"


def _row(path: str, each: Field) -> str:
    cells = (f"`{each.name}`", _type(each.shape), _default(path, each), each.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


_TYPES = {
    Kind.FLAG: "`true`, `false`",
    Kind.DURATION: "duration",
    Kind.SIZE: "size",
    Kind.GROUP: "mapping",
}


def _type(shape: Shape) -> str:
    match shape.kind:
        case Kind.TEXT:
            return "secret" if shape.secret else shape.words
        case Kind.NUMBER:
            return f"number{_range(shape)}"
        case Kind.CHOICE:
            return ", ".join(f"`{choice}`" for choice in shape.choices)
        case Kind.LIST | Kind.TABLE:
            words = "".join(f"`{choice}`, " for choice in shape.choices)
            kind = f"mapping: {_type(shape.key)} →" if shape.key else "list:"
            return f"{words}{kind} {_type(shape.item)}" if shape.item else ""
        case _:
            return _TYPES[shape.kind]


def _range(shape: Shape) -> str:
    least, most = shape.limit("ge"), shape.limit("le")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f" from {least}" if least is not None else ""


def _default(path: str, each: Field) -> str:
    if each.required and each.shape.kind is not Kind.GROUP:
        return "required"
    if each.default is None:
        return "none"
    shape = each.shape
    if shape.kind is Kind.GROUP or (shape.item and shape.item.kind is Kind.GROUP):
        below = f"{path}.{each.name}" if path else each.name
        anchor = "".join(letter for letter in below.lower() if letter.isalnum())
        return (
            f"[below](#{anchor})"
            if not each.default or not each.required
            else f"required, [below](#{anchor})"
        )
    return f"`{_as_written(show(each.default, shape))}`"


def _as_written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_as_written, value))}]"
    return json.dumps(value)


# --- The JSON Schema ---

_SUBSTITUTED = {"$ref": "#/$defs/substituted"}


def json_schema() -> dict[str, Any]:
    """For editors, in JSON Schema 2020-12. `check` knows more: what must fit together is not in here."""
    groups = {group.__name__: group for _, group in _groups("", Settings)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crowdgate-proxy's config file",
        "$ref": "#/$defs/Settings",
        "$defs": {
            **{name: _object(group) for name, group in groups.items()},
            "substituted": {
                "type": "string",
                "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
                "description": "Filled in from the environment.",
            },
        },
    }


def _object(group: type[Group]) -> dict[str, Any]:
    fields = fields_of(group)
    required = [each.name for each in fields.values() if each.required]
    return {
        "type": "object",
        "description": (group.__doc__ or "").strip(),
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": {name: _property(each) for name, each in fields.items()},
    }


def _property(each: Field) -> dict[str, Any]:
    schema = {"description": each.description, **_schema(each.shape)}
    if not each.required and each.shape.kind is not Kind.GROUP:
        schema["default"] = show(each.default, each.shape)
    return schema


def _schema(shape: Shape) -> dict[str, Any]:
    allowed = _allowed(shape)
    if shape.optional:
        allowed.append({"type": "null"})
    return allowed[0] if len(allowed) == 1 else {"anyOf": allowed}


def _allowed(shape: Shape) -> list[dict[str, Any]]:
    match shape.kind:
        case Kind.TEXT:
            pattern = next((meta.pattern for meta in shape.metas if meta.pattern), None)
            plain = {"type": "string"}
            return [{**plain, "pattern": pattern}, _SUBSTITUTED] if pattern else [plain]
        case Kind.FLAG:
            return [{"type": "boolean"}, _SUBSTITUTED]
        case Kind.NUMBER:
            bounds = {"minimum": shape.limit("ge"), "maximum": shape.limit("le")}
            return [{"type": "integer", **{k: v for k, v in bounds.items() if v is not None}}, _SUBSTITUTED]
        case Kind.DURATION:
            zero = [{"const": 0}] if shape.limit("gt") is None else []
            return [{"type": "string", "pattern": f"^{DURATION_PATTERN}$"}, *zero, _SUBSTITUTED]
        case Kind.SIZE:
            return [{"type": "string", "pattern": f"^{SIZE_PATTERN}$"}, {"const": 0}, _SUBSTITUTED]
        case Kind.CHOICE:
            return [{"enum": list(shape.choices)}, _SUBSTITUTED]
        case Kind.GROUP:
            return [{"$ref": f"#/$defs/{shape.group.__name__}"}]
        case Kind.LIST | Kind.TABLE:
            return _collection(shape)
        case _:
            assert_never(shape.kind)


def _collection(shape: Shape) -> list[dict[str, Any]]:
    item = _schema(shape.item) if shape.item else {}
    if shape.key is None:
        least = shape.limit("min_length")
        listed = {"type": "array", "items": item, **({"minItems": least} if least else {})}
        return [*([{"enum": list(shape.choices)}] if shape.choices else []), listed]
    pattern = next((meta.pattern for meta in shape.key.metas if meta.pattern), "^[0-9]+$")
    return [{"type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": item}]


def main(arguments: list[str]) -> int:
    """The exit code; see `docs_command`."""
    return keep_up_to_date(PAGE, page, module="proxy.config_docs", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
