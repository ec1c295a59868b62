"""DSNs, and servers that are not there."""

import pytest

from proxy.demo.database import UnfitError
from proxy.demo.mysql import Dsn, MySQL, parse


def test_a_dsn_says_all_in_one_line() -> None:
    expected = Dsn(user="ada@home", password="p/w", host="db.example", port=3307, schema="events")

    assert expected == parse("mysql://ada%40home:p%2Fw@db.example:3307/events")


def test_a_password_from_elsewhere_fills_the_one_left_out() -> None:
    assert (
        parse("mariadb://ada@db/events", "secret").password,
        parse("mysql://ada:own@db/events", "secret").password,
    ) == ("secret", "own")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("postgres://a:hush@b/c", "a DSN looks like", id="another kind"),
        pytest.param("mysql://a:hush@b", "names a user, a host and a schema", id="no schema"),
        pytest.param("mysql://b/c", "names a user, a host and a schema", id="no user"),
        pytest.param("mysql://a:hush@b:99999/c", "port is a number", id="no such port"),
    ],
)
def test_a_bad_dsn_is_told_in_a_sentence_without_its_password(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(text)
    assert "hush" not in str(caught.value)


def test_a_dsn_never_shows_its_password() -> None:
    dsn = parse("mysql://ada:hush@db/events")

    assert "hush" not in f"{dsn} {dsn!r}"


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    database = MySQL(parse(f"mysql://ada:hush@127.0.0.1:{unused_tcp_port}/events"))

    with pytest.raises(
        UnfitError, match=rf"cannot use mysql://ada@127\.0\.0\.1:{unused_tcp_port}/events: .*connect"
    ):
        await database.open()
