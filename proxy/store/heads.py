"""What the heads of stored answers have in common, kept once.

An API's answers for one route bear the same fields in the same order, and most of them say the same: a head of 360 bytes
differs in 60. So memory keeps one `Form` for all of them, and of each head what fills its gaps. A value that was once
different becomes a gap for good; what has no form yet, or no like, is kept as it is.
"""

from proxy.wire.fields import from_block

# Longer ones are rare; whoever sends them has no two alike.
_MAX_HEAD = 4096
# For some 2,500 forms. A route needs two or three, as long as its API runs.
_MAX_BYTES = 1 << 20

_Key = tuple[str, tuple[bytes, ...]]


class Form:
    """Fields with gaps for the values that differ from head to head."""

    __slots__ = ("_pattern", "_values")

    def __init__(self, names: tuple[bytes, ...], values: tuple[bytes | None, ...]) -> None:
        """`values` says None for a gap."""
        self._values = values
        lines = [
            b"%b: %b\r\n" % (_escaped(name), b"%b" if value is None else _escaped(value))
            for name, value in zip(names, values, strict=True)
        ]
        self._pattern = b"".join(lines)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return 2 * len(self._pattern)

    def fits(self, values: tuple[bytes, ...]) -> bool:
        """Whether a head with these values differs from others in the gaps alone."""
        return all(mine in {None, value} for mine, value in zip(self._values, values, strict=True))

    def widened(self, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> "Form":
        """The form that fits these values as well."""
        common = [mine if mine == value else None for mine, value in zip(self._values, values, strict=True)]
        return Form(names, tuple(common))

    def filling(self, values: tuple[bytes, ...]) -> bytes:
        """What a head with these values, which fit, has of its own."""
        return b"\n".join([value for mine, value in zip(self._values, values, strict=True) if mine is None])

    def head(self, filling: bytes) -> bytes:
        """The head, whole."""
        if None not in self._values:
            return self._pattern % ()
        return self._pattern % tuple(filling.split(b"\n"))


class Forms:
    """The forms of all routes, within a bound on bytes."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._by_names: dict[_Key, Form] = {}
        self._left = max_bytes

    def split(self, route: str, head: bytes) -> tuple[Form | None, bytes]:
        """A head as its form and what fills that; where it has none, None and the head."""
        fields = from_block(head) if len(head) <= _MAX_HEAD else ()
        if not fields or head.count(b"\n") != len(fields):
            return None, head
        names, values = tuple([name for name, _ in fields]), tuple([value for _, value in fields])
        form = self._by_names.get((route, names))
        if form is None:
            # The first of its kind: as yet nobody knows what it will have in common with others.
            self._keep((route, names), Form(names, values))
            return None, head
        if not form.fits(values):
            form = form.widened(names, values)
            if not self._keep((route, names), form):
                return None, head
        filling = form.filling(values)
        # Whatever Redis had: what is given back is what came.
        return (form, filling) if form.head(filling) == head else (None, head)

    def _keep(self, key: _Key, form: Form) -> bool:
        # None is dropped for another: entries hold on to theirs, and then it would take memory that nobody counts.
        if form.size > self._left:
            return False
        self._left -= form.size
        self._by_names[key] = form
        return True


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
