"""Nodes to settings, by the settings' types."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, assert_never

import msgspec

from proxy.config_nodes import Items, Node, Pairs, Refused, Scalar
from proxy.config_overrides import SUBSTITUTION
from proxy.config_problems import Findings, Place, Wrong, below
from proxy.setting_types import Kind, Shape, fields_of
from proxy.settings import Group
from proxy.units import instead_of, parse_duration, parse_size


class Reader:
    """Reads nodes by the settings' types."""

    def __init__(self, found: Findings, environ: Mapping[str, str]) -> None:
        self._found = found
        self._environ = environ

    def read(self, node: Node, shape: Shape, path: str, fallback: Any) -> Any:
        """The node's value, or a problem and `fallback`."""
        self._found.places[path] = node.place
        if isinstance(node, Refused):
            self._found.unsound.add(path)
            return fallback
        try:
            return self._value(node, shape, path)
        except Wrong as wrong:
            self._found.add(path, str(wrong), node.place)
            self._found.unsound.add(path)
            return fallback

    def _value(self, node: Node, shape: Shape, path: str) -> Any:
        if isinstance(node, Scalar) and node.null:
            if shape.optional:
                return None
            if shape.kind is Kind.GROUP:
                node = Pairs(pairs=(), place=node.place)
        match shape.kind:
            case Kind.GROUP:
                return self._group(_pairs(node, shape), shape.group, path)
            case Kind.TABLE:
                return self._table(_pairs(node, shape), shape, path)
            case Kind.LIST if not (isinstance(node, Scalar) and shape.choices):
                return self._list(node, shape, path)
            case _:
                return self._leaf(node, shape)

    def _group(self, node: Pairs, group: type[Group], path: str) -> Group:
        fields = fields_of(group)
        values = {each.name: each.default for each in fields.values()}
        pairs = self._unique(node, path)
        for key, (place, value) in pairs.items():
            if key not in fields:
                self._unknown(key, tuple(fields), path, place)
                continue
            shape = fields[key].shape
            if shape.kind in {Kind.LIST, Kind.TABLE} and isinstance(value, Scalar) and value.null:
                continue  # a key whose items are all commented out
            values[key] = self.read(value, shape, below(path, key), fields[key].default)
        for each in fields.values():
            if each.required and each.name not in pairs and self._found.is_sound(below(path, each.name)):
                self._found.add(below(path, each.name), "is missing", node.place)
                self._found.unsound.add(below(path, each.name))
        return group(**values)

    def _table(self, node: Pairs, shape: Shape, path: str) -> dict[Any, Any]:
        values = {}
        for key, (place, value) in self._unique(node, path).items():
            inside = below(path, key)
            try:
                name = _leaf(key, present(shape.key))
            except Wrong as wrong:
                self._found.add(inside, f"the key {wrong}", place)
                continue
            values[name] = self.read(value, present(shape.item), inside, present(shape.item).blank())
        return values

    def _list(self, node: Node, shape: Shape, path: str) -> tuple[Any, ...]:
        if not isinstance(node, Items):
            remedy = "; write one item as [item]" if isinstance(node, Scalar) else ""
            raise Wrong(f"must be {shape.words}, not {_called(node)}{remedy}")
        if not node.nodes and shape.limit("min_length"):
            raise Wrong("must not be empty")
        item = present(shape.item)
        return tuple(
            self.read(each, item, f"{path}[{index}]", item.blank()) for index, each in enumerate(node.nodes)
        )

    def _leaf(self, node: Node, shape: Shape) -> Any:
        if not isinstance(node, Scalar):
            raise Wrong(f"must be {shape.words}, not {_called(node)}")
        if node.null:
            raise Wrong(f"has no value: must be {shape.words}")
        if node.literal or "${" not in node.text:
            return _leaf(node.text, shape)
        text = self._substituted(node.text)
        try:
            return _leaf(text, shape)
        except (
            Wrong
        ):  # whose message may show what the variable holds, which may be a secret in the wrong place
            raise Wrong(f"must be {shape.words}, which the value of {node.text[:40]} is not") from None

    def _substituted(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name is None:
                return "${"
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not found[0].endswith("}"):
                raise Wrong("`${` must begin `${NAME}`; write `$${` for the characters themselves")
            if name not in self._environ:
                raise Wrong(f"the environment has no {name}")
            return self._environ[name]

        return SUBSTITUTION.sub(value, text)

    def _unique(self, node: Pairs, path: str) -> dict[str, tuple[Place, Node]]:
        pairs: dict[str, tuple[Place, Node]] = {}
        for key, value in node.pairs:
            if isinstance(key, Refused):
                continue
            if not isinstance(key, Scalar):
                self._found.add(path, "a key must be a single word", key.place)
            elif key.text in pairs:
                first = pairs[key.text][0].line
                where = f"; first on line {first}" if first else ""
                self._found.add(below(path, key.text), f"duplicate key{where}", key.place)
            else:
                pairs[key.text] = key.place, value
        return pairs

    def _unknown(self, key: str, known: tuple[str, ...], path: str, place: Place) -> None:
        close = get_close_matches(key[:64].lower().replace("-", "_"), known, n=1)
        if close:  # which is then not missing, nor to be judged
            self._found.unsound.add(below(path, close[0]))
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        self._found.add(below(path, key), f"unknown key; {hint}", place)


def present(shape: Shape | None) -> Shape:
    assert shape is not None  # noqa: S101 - LIST and TABLE have an item, TABLE has a key
    return shape


def _pairs(node: Node, shape: Shape) -> Pairs:
    if not isinstance(node, Pairs):
        raise Wrong(f"must be {shape.words}, not {_called(node)}")
    return node


def _called(node: Node) -> str:
    match node:
        case Scalar():
            return "nothing" if node.null else "a single value"
        case Items():
            return "a list"
        case _:
            return "a mapping"


def _leaf(text: str, shape: Shape) -> Any:
    """The value of a word. Raises Wrong."""
    try:
        value = _word(text, shape)
    except ValueError as error:
        raise Wrong(str(error)) from None
    try:
        return msgspec.convert(value, shape.hint) if shape.kind is not Kind.LIST else value
    except msgspec.ValidationError:
        raise Wrong(_limits(text, shape)) from None


def _word(text: str, shape: Shape) -> str | bool | int | float:
    match shape.kind:
        case Kind.DURATION:
            return parse_duration(text)
        case Kind.SIZE:
            return parse_size(text)
        case Kind.TEXT:
            return _text(text, shape)
        case Kind.FLAG:
            return _flag(text)
        case Kind.NUMBER:
            if not re.fullmatch(r"-?(0|[1-9][0-9]{0,14})", text):
                raise Wrong(f"must be a whole number{instead_of(text)}")
            return int(text)
        case Kind.CHOICE | Kind.LIST:
            return _choice(text, shape)
        case Kind.TABLE | Kind.GROUP:
            raise AssertionError(shape)
        case _:
            assert_never(shape.kind)


def _text(text: str, shape: Shape) -> str:
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise Wrong("must be one line, without tabs and control characters")
    if shape.secret and not text:
        raise Wrong("must not be empty")
    return text


_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "y", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "n", "0"), "false"),
}


def _flag(text: str) -> bool:
    if text in {"true", "false"}:
        return text == "true"
    meant = _FLAGS.get(text.lower())
    raise Wrong(f"must be true or false{instead_of(text)}{f'; did you mean {meant}?' if meant else ''}")


def _choice(text: str, shape: Shape) -> str | int:
    for choice in shape.choices:
        if text == str(choice):
            return choice
    close = get_close_matches(text[:64].lower(), [str(choice) for choice in shape.choices], n=1)
    raise Wrong(f"must be {shape.words}{instead_of(text)}{f'; did you mean {close[0]}?' if close else ''}")


def _limits(text: str, shape: Shape) -> str:
    """What msgspec objected to, in words."""
    if shape.kind is Kind.TEXT:
        likely = (text.strip(), text.upper(), f"/{text}", f"0.0.0.0:{text}", f"http://{text}")
        meant = next((word for word in likely if _fits(word, shape)), None)
        return f"must be {shape.words}{instead_of(text)}{f'; did you mean {meant}?' if meant else ''}"
    least, above, most = shape.limit("ge"), shape.limit("gt"), shape.limit("le")
    if least is not None and most is not None:
        return f"must be from {least} to {most}"
    if above is not None:
        return f"must be more than {above}"
    return f"must be at least {least}" if least is not None else f"must be at most {most}"


def _fits(text: str, shape: Shape) -> bool:
    try:
        msgspec.convert(text, shape.hint)
    except msgspec.ValidationError:
        return False
    return True
