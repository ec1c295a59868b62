"""Every input of corpus/, and what random changes make of them, keeps to what its target says must hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.claims import attack
from tests.fuzz.search import PATIENCE_S, search
from tests.fuzz.targets import TARGETS, within_bounds

pytestmark = pytest.mark.timeout(PATIENCE_S)

_CORPUS = Path(__file__).parent / "corpus"
_FILES = [pytest.param(path, id=f"{path.parent.name}-{path.name}") for path in sorted(_CORPUS.glob("*/*"))]


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert sorted(TARGETS) == sorted(folder.name for folder in _CORPUS.iterdir())


@attack(
    "hostile bytes",
    "every parser: inputs that are malformed, cut off, nested, huge, or have broken it before",
)
@pytest.mark.parametrize("path", _FILES)
def test_what_is_known_breaks_nothing(path: Path) -> None:
    within_bounds(TARGETS[path.parent.name], path.read_bytes())


def _changed(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with pieces of it, or of others, or of anything, put in, taken out or repeated."""
    seed = st.sampled_from(seeds)
    word = st.sampled_from(sorted({piece for text in seeds for piece in text.split()} or {b""}))
    piece = (
        word
        | st.binary(max_size=4)
        | st.sampled_from([b"\r\n", b'"', b",", b"=", b"\x00", b"\xff", b" ", b"\\"])
    )
    at = st.integers(0, 2**16)

    def change(text: bytes, edits: list[tuple[int, int, bytes, int]]) -> bytes:
        for place, taken, put, times in edits:
            begin = place % (len(text) + 1)
            text = text[:begin] + put * times + text[begin + taken :]
        return text

    edits = st.lists(
        st.tuples(at, st.integers(0, 8), piece, st.sampled_from((1, 1, 1, 0, 2, 50))), max_size=4
    )
    return st.builds(change, seed, edits) | st.binary(max_size=200)


@attack("hostile bytes", "every parser: random changes of known inputs")
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_random_changes_make_of_it_breaks_nothing(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted((_CORPUS / name).iterdir())]
    # Of long seeds thousands of changes would be seconds.
    short = [seed for seed in seeds if len(seed) <= 2000] or seeds

    search(_changed(short), lambda data: within_bounds(TARGETS[name], data), examples=150)


def _lines(line: bytes, count: int) -> Callable[[], bytes]:
    return lambda: line * count


# Too large to keep, and each of a kind that has cost some parser minutes or gigabytes.
_HUGE = [
    ("request_head", _lines(b"A", 300_000)),
    ("request_head", lambda: b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000),
    ("response_head", lambda: b"HTTP/1.1 200 OK\r\n" + b"a:" + b" \t" * 100_000),
    ("response_head", lambda: b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000),
    ("chunks", lambda: b"1\r\na\r\n" * 20_000),
    ("chunks", lambda: b"1;" + b"a=b;" * 50_000),
    ("cache_control", lambda: b'a="' * 20_000),
    ("cache_control", lambda: b'a="\\' * 20_000 + b"\n" + b"," * 100_000),
    ("cache_control", lambda: b"a=" * 50_000),
    ("targets", lambda: b"(" * 20_000),
    ("targets", lambda: b'a="\\"' * 5_000),
    ("etags", lambda: b'W/"' * 50_000),
    ("etags", lambda: b" ," * 50_000),
    ("dates", lambda: b"Mon, " * 50_000),
    ("tags", lambda: b"a" * 100_000 + b"\n" + b"a," * 50_000),
    ("query", lambda: b"a;" * 20_000),
    ("query", lambda: b"page=1&" * 5_000),
    ("query", lambda: b"%61%5b[[.. ++" * 3_000),
    ("vary", lambda: b", , " * 20_000),
    ("routes", lambda: b"/p/" + b".json" * 20_000),
    ("routes", lambda: b"/e/" + b"%41" * 20_000 + b"\n" + b"../" * 20_000),
    ("globs", lambda: b"*a" * 200 + b"b\n" + b"a" * 20_000),
    ("entry", lambda: b"z" + bytes(20_000_000)),
    ("entry", lambda: b"h" + b"\x91" * 100_000),
    ("redis_replies", lambda: b"*1\r\n" * 20_000),
    ("config", lambda: b"[" * 200_000),
    ("config", lambda: b"- " * 200_000),
    ("config", lambda: b"{a: " * 50_000),
    ("config", lambda: b"routes:\n" + b"- {match: /a}\n" * 20_000),
    ("config", lambda: b"a: 1\n" * 100_000),
    ("config", lambda: b"x" * 1_048_577),
    ("admin", lambda: b"[" * 100_000),
    ("admin", lambda: b'{"tags": [' + b'"a",' * 50_000 + b'"a"]}'),
    ("admin", lambda: b'{"' + b"a" * 200_000 + b'": 1}'),
    ("metrics_text", lambda: b'a{b="' + b"\\" * 100_000),
    ("metrics_text", lambda: b"a{" * 20_000),
]


@attack("hostile bytes", "every parser: too much of it, in bounded time and memory")
@pytest.mark.parametrize(
    ("name", "huge"), [pytest.param(*each, id=f"{each[0]}-{at}") for at, each in enumerate(_HUGE)]
)
def test_what_is_huge_costs_little(name: str, huge: Callable[[], bytes]) -> None:
    within_bounds(TARGETS[name], huge())
