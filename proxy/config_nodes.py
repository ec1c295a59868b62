"""YAML text to nodes that know their place, with none of YAML's guesses and traps."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from proxy.config_problems import BadConfig, Findings, Place, problem_at

MINIMAL = "upstream: {url: http://127.0.0.1:8080}"
"""The shortest config that works."""
MAX_TEXT = 1024 * 1024  # 1 MiB: what Kubernetes lets a ConfigMap hold
_MAX_DEPTH = 16  # the deepest setting stands at 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    text: str
    null: bool = False
    """Nothing, `~` or `null`, without quotes."""
    literal: bool = False
    """`${NAME}` means itself: the value came from the environment."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    nodes: "tuple[Node, ...]"
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    pairs: "tuple[tuple[Node, Node], ...]"
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Something that was reported already."""

    place: Place


Node = Scalar | Items | Pairs | Refused


class _Composer:
    """Makes nodes of libyaml's events: `yaml.compose` would expand aliases and recurse before we could object."""

    def __init__(self, text: str, place: Callable[[int, int], Place], found: Findings) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._place = place
        self._found = found

    def document(self) -> Node | None:
        """None where there is nothing but comments. Raises yaml.MarkedYAMLError, BadConfig."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._found.add(
                "",
                "a second document starts here: put all into one",
                self._place(after.start_mark.line, after.start_mark.column),
            )
        return root

    def _node(self, event: Any, depth: int) -> Node:
        place = self._place(event.start_mark.line, event.start_mark.column)
        if depth > _MAX_DEPTH:
            self._found.add("", "is nested too deeply", place)
            raise BadConfig(self._found.problems)
        if isinstance(event, yaml.AliasEvent):
            self._found.add("", f"aliases (`*{event.anchor}`) are not supported: write the value out", place)
            return Refused(place=place)
        if event.anchor:
            self._found.add("", f"anchors (`&{event.anchor}`) are not supported", place)
        if event.tag:
            self._found.add(
                "", f"tags (`{event.tag[:40]}`) are not supported: the setting has its type", place
            )
        if isinstance(event, yaml.ScalarEvent):
            null = event.implicit[0] and event.value in {"", "~", "null", "Null", "NULL"}
            return Scalar(text=event.value, null=null, place=place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(nodes=tuple(self._until(yaml.SequenceEndEvent, depth)), place=place)
        flat = iter(list(self._until(yaml.MappingEndEvent, depth)))
        return Pairs(pairs=tuple(zip(flat, flat, strict=True)), place=place)

    def _until(self, end: type, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), end):
            yield self._node(event, depth + 1)


def compose(text: str, place: Callable[[int, int], Place], found: Findings) -> Node:
    """Raises BadConfig for what is no YAML."""
    if bad := UNPRINTABLE.search(text):
        at = place(*line_and_column(text, bad.start()))
        raise BadConfig([problem_at(at, "", f"the character U+{ord(bad[0]):04X} is not allowed")])
    try:
        root = _Composer(text, place, found).document()
    except yaml.MarkedYAMLError as error:
        # By its index: at the end of a last line without a newline libyaml's own line is one too far.
        mark = error.problem_mark
        at = place(*line_and_column(text, min(mark.index, len(text)))) if mark else found.whole
        raise BadConfig([*found.problems, problem_at(at, "", _syntax(error))]) from error
    return root or Scalar(text="", null=True, place=found.whole)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark, begin = error.problem_mark, error.context_mark
    context = f" {error.context}" if error.context else ""
    since = f" from line {begin.line + 1}" if mark and begin and begin.line != mark.line else ""
    message = f"not YAML: {error.problem}{context}{since}"
    if "cannot start any token" in message:
        return f"{message}; indent with spaces, and quote text that begins with @ ` % or a tab"
    if "flow" in message:
        return f"{message}; between {{ }} and [ ] text with any of `,[]{{}}` needs quotes, `${{NAME}}` too"
    return message


# YAML 1.2 section 5.1; libyaml refuses these without saying where.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both count from 0."""
    line, begin = 0, 0
    for line_break in _LINE_BREAK.finditer(text, 0, offset):
        line, begin = line + 1, line_break.end()
    return line, offset - begin


def in_file(name: str) -> Callable[[int, int], Place]:
    return lambda line, column: Place(file=name, line=line + 1, col=column + 1)


def read_text(text: str, name: str, found: Findings) -> Node:
    """The file's nodes. Raises BadConfig."""
    if len(text) > MAX_TEXT:
        raise BadConfig([problem_at(found.whole, "", "is larger than 1MiB")])
    root = compose(text, in_file(name), found)
    if isinstance(root, Scalar) and root.null:
        found.add("", f"is empty; the least that works is `{MINIMAL}`")
        raise BadConfig(found.problems)
    found.whole = root.place
    return root
