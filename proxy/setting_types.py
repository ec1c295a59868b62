"""The settings' types, taken apart: what may stand at each place of the config file."""

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, assert_never, get_args, get_origin, get_type_hints

import msgspec

from proxy.settings import DURATION, SECRET, SECRET_URL, SIZE, Group


class Kind(Enum):
    """What may stand at a place in the file."""

    TEXT = "text"
    FLAG = "true or false"
    NUMBER = "a whole number"
    DURATION = "a duration such as 30s"
    SIZE = "a size such as 64MiB"
    CHOICE = "one of"
    LIST = "a list"
    TABLE = "a mapping with keys of your own"
    GROUP = "a mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A type of `proxy.settings`, without the None that may be allowed beside it."""

    kind: Kind
    hint: Any
    metas: tuple[msgspec.Meta, ...] = ()
    optional: bool = False
    choices: tuple[str | int, ...] = ()
    """Of a CHOICE; of a LIST the words that may stand in its place."""
    item: "Shape | None" = None
    """Of a LIST and a TABLE."""
    key: "Shape | None" = None
    """Of a TABLE."""
    group: type[Group] = Group
    """Of a GROUP."""

    @property
    def secret(self) -> bool:
        return self.tag in {SECRET, SECRET_URL}

    @property
    def tag(self) -> str | None:
        """Its `kind` in `proxy.settings`."""
        return next((meta.extra["kind"] for meta in self.metas if meta.extra), None)

    @property
    def words(self) -> str:
        """Completes "must be …"."""
        if self.kind is Kind.CHOICE:
            several = "one of " if len(self.choices) > 1 else ""
            return several + ", ".join(str(choice) for choice in self.choices)
        if self.kind is Kind.LIST and self.choices:
            return f"{', '.join(str(choice) for choice in self.choices)} or a list"
        named = (meta.description for meta in self.metas if meta.pattern and meta.description)
        return next(named, self.kind.value)

    def limit(self, name: str) -> float | None:
        """The value of `ge`, `gt`, `le` or `min_length`, if there is one."""
        return next((bound for meta in self.metas if (bound := getattr(meta, name)) is not None), None)

    def blank(self) -> Any:
        """Stands for a value that must be there and is not."""
        if self.optional:
            return None
        match self.kind:
            case Kind.TEXT:
                return ""
            case Kind.FLAG | Kind.NUMBER | Kind.DURATION | Kind.SIZE:
                return msgspec.convert(0, self.hint.__origin__, strict=False)
            case Kind.CHOICE:
                return self.choices[0]
            case Kind.LIST:
                return ()
            case Kind.TABLE:
                return {}
            case Kind.GROUP:
                needed = (each for each in fields_of(self.group).values() if each.required)
                return self.group(**{each.name: each.shape.blank() for each in needed})
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a Group."""

    name: str
    shape: Shape
    required: bool
    default: Any
    """Blank where the key is required."""
    description: str


@cache
def fields_of(group: type[Group]) -> dict[str, Field]:
    """The keys of a mapping in the file, in order."""
    hints = get_type_hints(group, include_extras=True)
    return {info.name: _field_of(info, hints[info.name]) for info in msgspec.structs.fields(group)}


def _field_of(info: msgspec.structs.FieldInfo, hint: Any) -> Field:
    shape = shape_of(hint)
    if info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory()
    else:
        default = shape.blank() if info.default is msgspec.NODEFAULT else info.default
    return Field(
        name=info.name,
        shape=shape,
        required=info.required,
        default=default,
        description=hint.__metadata__[-1].description,
    )


def shape_of(hint: Any) -> Shape:
    metas = getattr(hint, "__metadata__", ())
    bare = hint.__origin__ if metas else hint
    if get_origin(bare) in {Union, UnionType}:
        return _union(bare, metas)
    shape = _plain_shape(bare)
    found = replace(shape, hint=hint, metas=metas)
    by_tag = {DURATION: Kind.DURATION, SIZE: Kind.SIZE}.get(found.tag or "")
    return replace(found, kind=by_tag) if by_tag else found


def _union(hint: Any, metas: tuple[msgspec.Meta, ...]) -> Shape:
    shapes = [shape_of(member) for member in get_args(hint) if member is not NoneType]
    optional = NoneType in get_args(hint)
    first, *others = shapes
    if others:  # words or a list
        first = replace(others[0], choices=first.choices)
    return replace(first, optional=optional, metas=(*first.metas, *metas))


def _plain_shape(hint: Any) -> Shape:
    args = get_args(hint)
    match get_origin(hint) or hint:
        case origin if origin is Literal:
            return Shape(kind=Kind.CHOICE, hint=hint, choices=args)
        case origin if origin is tuple:
            return Shape(kind=Kind.LIST, hint=hint, item=shape_of(args[0]))
        case origin if origin is dict:
            return Shape(kind=Kind.TABLE, hint=hint, key=shape_of(args[0]), item=shape_of(args[1]))
        case origin if issubclass(origin, Group):
            return Shape(kind=Kind.GROUP, hint=hint, group=origin)
        case origin:
            kinds = {str: Kind.TEXT, bool: Kind.FLAG, int: Kind.NUMBER, float: Kind.DURATION}
            return Shape(kind=kinds[origin], hint=hint)
