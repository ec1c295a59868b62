import pytest

from proxy.policy.forwarded import forwarded, forwarded_names, without_forwarded
from proxy.wire.fields import Fields


def said(*lines: tuple[bytes, bytes]) -> Fields:
    return ((b"Host", b"a"), (b"X-Trace", b"7"), (b"Accept", b"x"), *lines)


@pytest.mark.parametrize(
    "name",
    [
        b"X-Forwarded-Host",
        b"x_forwarded_host",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Prefix",
        b"X-Forwarded-User",
        b"X-Host",
        b"Front-End-Https",
    ],
)
def test_what_an_api_may_build_its_links_from_is_in_the_key(name: bytes) -> None:
    digests = {forwarded(said((name, value))) for value in (b"one", b"other")} | {forwarded(said())}

    assert len(digests) == 3


@pytest.mark.parametrize(
    "line",
    [
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Client-Cert", b"By=x"),
        (b"X-Real-IP", b"::1"),
        (b"X-Other", b"x"),
    ],
)
def test_who_asks_is_not(line: tuple[bytes, bytes]) -> None:
    assert forwarded(said(line)) == b""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(b"for=10.0.0.1", b"for=10.0.0.2", True, id="for"),
        pytest.param(b'For="[::1]:80";by=a', b'For="[::2]:9";by=b', True, id="for and by, quoted"),
        pytest.param(b"for=1;host=a", b"for=2;host=a", True, id="the same host"),
        pytest.param(b"for=1;host=a", b"for=1;host=b", False, id="another host"),
        pytest.param(b"for=1;proto=http", b"for=1;proto=https", False, id="another scheme"),
        pytest.param(b"for=1, for=2;host=a", b"for=1, for=2;host=b", False, id="in a later element"),
        pytest.param(b'for="a;host=b"', b'for="a;host=c"', True, id="what is quoted is for's own"),
        pytest.param(b'for="a\\";host=b"', b'for="a\\";host=c"', False, id="what can be read in two ways"),
        pytest.param(b"xfor=1", b"xfor=2", False, id="an unknown parameter"),
    ],
)
def test_of_forwarded_all_counts_but_who_asks(one: bytes, other: bytes, *, same: bool) -> None:
    digests = [forwarded(said((b"Forwarded", value))) for value in (one, other)]

    assert same == (digests[0] == digests[1])


def test_names_and_values_cannot_be_moved_into_one_another() -> None:
    assert forwarded(said((b"X-Host", b"a"), (b"X-Scheme", b"b"))) != forwarded(
        said((b"X-Host", b"a8:x-scheme:1:b"))
    )


def test_they_can_be_taken_away() -> None:
    fields = said((b"X-Forwarded-Host", b"evil"), (b"Forwarded", b"host=evil"), (b"X-Forwarded-For", b"1"))

    assert without_forwarded(fields) == said((b"X-Forwarded-For", b"1"))
    assert forwarded_names(fields) == {b"x-forwarded-host", b"forwarded"}
    assert without_forwarded(said()) == said()
