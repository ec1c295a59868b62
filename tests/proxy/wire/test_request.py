import pytest

from proxy.wire.fields import Fields
from proxy.wire.request import origin_form, with_host

HOST: Fields = ((b"A", b"1"), (b"Host", b"client"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(b"http://api/a?b", (b"/a?b", ((b"Host", b"api"), (b"A", b"1"))), id="absolute form"),
        pytest.param(
            b"HTTP://api:81//x", (b"//x", ((b"Host", b"api:81"), (b"A", b"1"))), id="scheme in capitals"
        ),
        pytest.param(b"/http://api/", (b"/http://api/", HOST), id="origin form"),
        pytest.param(b"*", (b"*", HOST), id="asterisk form"),
        pytest.param(b"http://me@api/", (b"http://me@api/", HOST), id="user information"),
        pytest.param(b"http://api", (b"http://api", HOST), id="no path"),
        pytest.param(b"http:///a", (b"http:///a", HOST), id="no authority"),
        pytest.param(b"http://api?x/y", (b"http://api?x/y", HOST), id="query before the path"),
        pytest.param(b"https://api/a", (b"https://api/a", HOST), id="another scheme"),
    ],
)
def test_an_absolute_target_is_the_same_request_as_its_path(
    target: bytes, expected: tuple[bytes, Fields]
) -> None:
    assert expected == origin_form(target, HOST)


def test_host_is_added_only_where_there_is_none() -> None:
    assert HOST == with_host(HOST, b"api")
    assert ((b"Host", b"api"), (b"A", b"1")) == with_host(((b"A", b"1"),), b"api")
