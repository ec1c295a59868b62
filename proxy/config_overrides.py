"""Variables of the environment, laid over the nodes of the config file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from proxy.config_nodes import Items, Node, Pairs, Refused, Scalar, compose
from proxy.config_problems import BadConfig, Findings, Place, below
from proxy.setting_types import Kind, Shape, fields_of

_PREFIX = "CROWDGATE_"
_OTHERS = tuple(f"{_PREFIX}{other}_" for other in ("TUNER", "SCALER", "DEMO", "TEST"))
# Read by the commands that speak to the admin port; the proxy's own is CROWDGATE_ADMIN__TOKEN.
_COMMANDS = frozenset({f"{_PREFIX}ADMIN_TOKEN"})
# What Kubernetes sets in every pod for a Service named crowdgate or crowdgate-proxy.
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)", re.DOTALL
)
SUBSTITUTION = re.compile(r"\$\$\{|\$\{([^}]*)\}?")


def overrides(environ: Mapping[str, str], root: Node) -> list[str]:
    """Variables that override a setting: outer settings before their parts, items of a list in order."""
    mentioned = set(_mentioned(root))
    names = (name for name in environ if _is_override(name) and name not in mentioned)
    return sorted(names, key=lambda name: [part.zfill(6) for part in name.split("__")])


def _is_override(name: str) -> bool:
    if not name.startswith(_PREFIX) or name.startswith(_OTHERS) or name in _COMMANDS:
        return False
    return "__" in name or not _SERVICE_LINK.fullmatch(name)


def _mentioned(node: Node) -> Iterator[str]:
    """Names that the file uses as `${NAME}`: these are not overrides too."""
    if isinstance(node, Scalar):
        yield from (name for name in SUBSTITUTION.findall(node.text) if name)
    elif isinstance(node, Items):
        for item in node.nodes:
            yield from _mentioned(item)
    elif isinstance(node, Pairs):
        for _, value in node.pairs:
            yield from _mentioned(value)


class Override:
    """One variable's value, to be laid over the file's nodes."""

    def __init__(self, name: str, text: str, found: Findings) -> None:
        self._text = text
        self._place = Place(file=f"env {name}")
        self._found = found
        self.keys = tuple(name.removeprefix(_PREFIX).lower().split("__"))

    def over(self, node: Node | None, shape: Shape | None, keys: tuple[str, ...], path: str) -> Node:
        """The node with the value set below it. Problems of its type are left to who reads the nodes."""
        if not keys:
            return self._value(shape, path)
        key, *rest = keys
        if shape and shape.kind is Kind.LIST:
            return self._over_items(node, shape, keys, path)
        if shape and shape.kind not in {Kind.GROUP, Kind.TABLE}:
            self._found.add(path, f"must be {shape.words}: it has no `{key}`", self._place)
            return node or Refused(place=self._place)
        if node is not None and not isinstance(node, Pairs) and not (isinstance(node, Scalar) and node.null):
            return node
        pairs = list(node.pairs) if isinstance(node, Pairs) else []
        inner = _inner(shape, key)
        at = next(
            (i for i, (k, _) in enumerate(pairs) if isinstance(k, Scalar) and k.text == key), len(pairs)
        )
        before = pairs[at][1] if at < len(pairs) else None
        value = self.over(before, inner, tuple(rest), below(path, key))
        pairs[at : at + 1] = [(Scalar(text=key, place=self._place), value)]
        return Pairs(pairs=tuple(pairs), place=node.place if node else self._place)

    def _over_items(self, node: Node | None, shape: Shape, keys: tuple[str, ...], path: str) -> Node:
        nodes = list(node.nodes) if isinstance(node, Items) else []
        index = int(keys[0]) if re.fullmatch("[0-9]{1,4}", keys[0]) else None
        if index is None or index > len(nodes):
            message = f"`{keys[0]}` must be an index up to {len(nodes)}, as there are {len(nodes)} so far"
            self._found.add(path, message, self._place)
            return node or Items(nodes=(), place=self._place)
        before = nodes[index] if index < len(nodes) else None
        nodes[index : index + 1] = [self.over(before, shape.item, keys[1:], f"{path}[{index}]")]
        return Items(nodes=tuple(nodes), place=node.place if node else self._place)

    def _value(self, shape: Shape | None, path: str) -> Node:
        if not self._text:
            self._found.add(path, "the variable is empty: unset it, or write null", self._place)
            return Refused(place=self._place)
        words = shape is not None and shape.kind is Kind.LIST and self._text in shape.choices
        if words or shape is None or shape.kind not in {Kind.LIST, Kind.TABLE, Kind.GROUP}:
            return Scalar(text=self._text, null=self._text == "null", literal=True, place=self._place)
        found = Findings(self._place)
        try:
            node = _literal(compose(self._text, lambda _line, _column: self._place, found))
        except BadConfig as bad:
            found.problems, node = list(bad.problems), Refused(place=self._place)
        for problem in found.problems:
            self._found.add(path, problem.message, self._place)
        return node


def _inner(shape: Shape | None, key: str) -> Shape | None:
    if shape and shape.kind is Kind.TABLE:
        return shape.item
    if shape and shape.kind is Kind.GROUP and key in fields_of(shape.group):
        return fields_of(shape.group)[key].shape
    return None


def _literal(node: Node) -> Node:
    if isinstance(node, Scalar):
        return replace(node, literal=True)
    if isinstance(node, Items):
        return replace(node, nodes=tuple(_literal(item) for item in node.nodes))
    if isinstance(node, Pairs):
        return replace(node, pairs=tuple((key, _literal(value)) for key, value in node.pairs))
    return node
