"""What a change makes invalid: its own URL, what its answer points to, and groups."""

import pytest

from tests.claims import clause
from tests.flow.caching.stage import API, ETAG, FRESH, SILENT, STORE, Source, Stage, reply, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSAFE = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO"]


async def source_after(
    stage: Stage, method: str, *lines: str, status: int = 200, first: str = "", then: str = ""
) -> Source:
    """Where a GET comes from after a change that was answered with `lines`. `first` and `then` follow the paths."""
    stage.answers(FRESH)
    await stage.ask(at=first)
    stage.answers(*lines, status=status)
    changed = await stage.ask(method=method, body=b"x", at=then)
    assert (changed.source, changed.status, changed.asked[0].method) == (API, status, method)
    stage.answers(FRESH)
    return (await stage.ask(at=first)).source


@clause("RFC 9111", "4.4", "A change that was not refused makes what is stored of its own URL invalid")
@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("status", [200, 201, 204, 303])
async def test_a_change_invalidates(stage: Stage, method: str, status: int) -> None:
    assert await source_after(stage, method, status=status) is API


@clause("RFC 9111", "4.4", "Any 2xx and 3xx counts as not refused")
@pytest.mark.parametrize("status", [202, 203, 205, 207, 299, 301, 302, 307, 308])
async def test_other_answers_invalidate(stage: Stage, status: int) -> None:
    assert await source_after(stage, "POST", status=status) is API


@clause("RFC 9111", "4.4", "A change that was refused makes nothing invalid")
@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 500, 503])
async def test_a_refused_change_invalidates_nothing(stage: Stage, method: str, status: int) -> None:
    assert await source_after(stage, method, status=status) is STORE


@clause("RFC 9110", "9.2.1", "Safe methods make nothing invalid")
@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
async def test_safe_methods_invalidate_nothing(stage: Stage, method: str) -> None:
    stage.answers(FRESH)
    await stage.ask()
    # Another URL where the method is answered from the store.
    await stage.ask(method=method, at="" if method == "OPTIONS" else "?other")
    assert (await stage.ask()).source is STORE


@clause("RFC 9111", "4", "A change always reaches the API, and its answer is no later GET's")
@pytest.mark.parametrize("method", UNSAFE)
async def test_changes_are_written_through(stage: Stage, method: str) -> None:
    stage.answers(FRESH, ETAG)
    seen = [
        await stage.ask(method=method, body=b"x"),
        await stage.ask(method=method, body=b"x"),
        await stage.ask(),
    ]

    assert [one.source for one in seen] == [API] * 3
    assert [one.body for one in seen] == [b"1", b"2", b"3"]


@clause("RFC 9111", "4.4", "All variants of a changed URL are invalid")
async def test_all_variants_are_invalid(stage: Stage) -> None:
    stage.answers(FRESH, "Vary: X")
    for value in "abc":
        await stage.ask(f"X: {value}")
    await stage.ask("X: d", method="POST", body=b"x")
    assert [(await stage.ask(f"X: {value}")).source for value in "abc"] == [API] * 3


@clause("RFC 9111", "4.4", "A change is about its own URL, not about those beside it")
@table(
    "first, then, source",
    {
        "the same query": ("?a=1", "?a=1", API),
        "another query": ("?a=1", "?a=2", STORE),
        "a query, changed without": ("?a=1", "", STORE),
        "without a query, changed with": ("", "?a=1", STORE),
        "a path below": ("/b", "", STORE),
        "a path above": ("", "/b", STORE),
        "a path beside": ("/a", "/b", STORE),
        "another case": ("/a", "/A", STORE),
        "an unreserved character, escaped": ("/a", "/%61", API),
    },
)
async def test_only_its_own_url(stage: Stage, first: str, then: str, source: Source) -> None:
    assert await source_after(stage, "POST", first=first, then=then) is source


@clause(
    "RFC 9111",
    "4.4",
    "What a change's Location and Content-Location point to in the same origin is invalid as well",
)
@table(
    "value",
    {
        "absolute path": "{path}/b",
        "relative path": "b",
        "relative path with a dot": "./b",
        "relative path with two dots": "../{last}/b",
        "whole URL": "http://api.test{path}/b",
        "host in capitals": "http://API.test{path}/b",
        "scheme in capitals": "HTTP://api.test{path}/b",
        "with the default port": "http://api.test:80{path}/b",
        "without scheme": "//api.test{path}/b",
        "with a fragment": "{path}/b#part",
        "with dots within": "{path}/x/../b",
    },
)
@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize("method", ["POST", "FOO"])
async def test_what_a_change_points_to(stage: Stage, method: str, field: str, value: str) -> None:
    target = value.format(path=stage.path, last=stage.path.rpartition("/")[2])
    source = await source_after(stage, method, f"{field}: {target}", status=201, first="/b", then="/a")
    assert source is API


@clause("RFC 9111", "4.4", "A query in Location belongs to the URL that it points to")
@table(
    "value, source",
    {
        "the query of its path": ("{path}/b?x=1", API),
        "another query": ("{path}/b?x=2", STORE),
        "no query": ("{path}/b", STORE),
    },
)
async def test_location_with_a_query(stage: Stage, value: str, source: Source) -> None:
    line = f"Location: {value.format(path=stage.path)}"
    assert await source_after(stage, "POST", line, status=201, first="/b?x=1", then="/a") is source


@clause("RFC 9111", "4.4", "What Location and Content-Location point to in another origin stays")
@pytest.mark.parametrize(
    "origin",
    [
        "http://other.test",
        "http://api.test:8080",
        "http://api.test.evil.test",
        "http://api.test@evil.test",
        "ftp://api.test",
        "//other.test",
    ],
)
@pytest.mark.parametrize("field", ["Location", "Content-Location"])
async def test_other_origins_stay(stage: Stage, field: str, origin: str) -> None:
    line = f"{field}: {origin}{stage.path}/b"
    assert await source_after(stage, "POST", line, status=201, first="/b", then="/a") is STORE


@clause("RFC 9111", "4.4", "A Location that is no URL points nowhere")
@pytest.mark.parametrize("value", ["", "http://", "http://[", "::", "%", "http://api.test:x/", "\xff"])
async def test_unreadable_locations(stage: Stage, value: str) -> None:
    line = f"Location: {value}"
    assert await source_after(stage, "POST", line, status=201, first="/b", then="/a") is STORE


@clause(
    "RFC 9111",
    "4.4",
    "Location and Content-Location of a refused change or of a safe method point to nothing invalid",
)
@table("method, status", {"refused": ("POST", 400), "failed": ("PUT", 500), "safe": ("GET", 201)})
@pytest.mark.parametrize("field", ["Location", "Content-Location"])
async def test_locations_without_a_change(stage: Stage, field: str, method: str, status: int) -> None:
    stage.answers(FRESH)
    await stage.ask(at="/b")
    stage.answers(f"{field}: {stage.path}/b", status=status)
    await stage.ask(method=method, at="/a")
    assert (await stage.ask(at="/b")).source is STORE


@clause("RFC 9111", "4.4", "A change that got no answer may have been made: what is stored is invalid")
async def test_a_change_without_answer(stage: Stage) -> None:
    stage.answers_in_turn(reply(FRESH), SILENT, reply(FRESH, body=b"new"))
    await stage.ask()
    changed = await stage.ask(method="POST", body=b"x")
    assert changed.status in (502, 504)
    assert (await stage.ask()).body == b"new"


# -- groups --


async def source_after_group(
    stage: Stage, groups: list[str], invalidated: list[str], *, method: str = "POST", status: int = 200
) -> Source:
    """Where what is stored in `groups` comes from after a change of another URL made groups invalid."""
    # Every test has groups of its own.
    own = stage.path.strip("/")
    stage.answers(FRESH, *(f"Cache-Groups: {line.replace('$', own)}" for line in groups))
    await stage.ask(at="/a")
    lines = [f"Cache-Group-Invalidation: {line.replace('$', own)}" for line in invalidated]
    stage.answers(*lines, status=status)
    await stage.ask(method=method, at="/b", body=b"" if method in ("GET", "HEAD") else b"x")
    return (await stage.ask(at="/a")).source


@clause("RFC 9875", "3", "A change makes the stored answers of the groups that it names invalid")
@table(
    "groups, invalidated, source",
    {
        "its group": (['"$"'], ['"$"'], API),
        "another group": (['"$"'], ['"$-other"'], STORE),
        "another case": (['"$a"'], ['"$A"'], STORE),
        "one of several named": (['"$"'], ['"x", "$"'], API),
        "named in a second line": (['"$"'], ['"x"', '"$"'], API),
        "in one of several groups": (['"x-$", "$"'], ['"$"'], API),
        "in a group of a second line": (['"x-$"', '"$"'], ['"$"'], API),
        "a named one with a parameter": (['"$"'], ['"$";a=1'], API),
        "a group with a parameter": (['"$";a="b"'], ['"$"'], API),
        "an escaped quote": (['"$\\"a"'], ['"$\\"a"'], API),
        "an escaped backslash": (['"$\\\\a"'], ['"$\\\\a"'], API),
        "a comma within": (['"$,a"'], ['"$,a"'], API),
        "half of one with a comma": (['"$,a"'], ['"$"'], STORE),
        "white space within": (['"$ a"'], ['"$ a"'], API),
        "white space around": (['  "$"  ,  "x"'], ['"y" , "$"'], API),
        "a part of the name": (['"$ab"'], ['"$a"'], STORE),
        "no group": ([], ['"$"'], STORE),
        "nothing named": (['"$"'], [], STORE),
        "an empty field": (['"$"'], [""], STORE),
    },
)
async def test_groups(stage: Stage, groups: list[str], invalidated: list[str], source: Source) -> None:
    assert await source_after_group(stage, groups, invalidated) is source


@clause("RFC 9875", "3", "A Cache-Group-Invalidation that is no List of Strings counts as absent, all of it")
@pytest.mark.parametrize(
    "value",
    [
        "$",
        '"$',
        "'$'",
        '"$",',
        ',"$"',
        '"$" "x"',
        '"$";',
        '"$", x',
        '"$", 1',
        '"$", ?1',
        '("$")',
        '"$", ("x")',
        '"$", "x',
        ':JA==:, "$"',
        '"$", "\\x"',
        '"$", "\xe4"',
        '"$"=1',
        'a="$"',
    ],
)
async def test_malformed_invalidations_are_ignored(stage: Stage, value: str) -> None:
    assert await source_after_group(stage, ['"$"'], [value]) is STORE


@clause("RFC 9875", "2", "A Cache-Groups that is no List of Strings puts its answer into no group")
@pytest.mark.parametrize("value", ['"$', '"$",', '"$", x', '"$", 1', '("$")', '"$" "x"', '"$", "\\x"'])
async def test_malformed_groups_are_none(stage: Stage, value: str) -> None:
    assert await source_after_group(stage, [value], ['"$"']) is STORE


@clause("RFC 9875", "3", "Only answers to unsafe methods make groups invalid")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_methods_invalidate_no_groups(stage: Stage, method: str) -> None:
    assert await source_after_group(stage, ['"$"'], ['"$"'], method=method) is STORE


@clause("RFC 9875", "3", "Answers to all unsafe methods make groups invalid")
@pytest.mark.parametrize("method", UNSAFE)
async def test_unsafe_methods_invalidate_groups(stage: Stage, method: str) -> None:
    assert await source_after_group(stage, ['"$"'], ['"$"'], method=method) is API


@clause("RFC 9875", "2", "An answer may be in 32 groups of 32 characters each")
async def test_many_groups(stage: Stage) -> None:
    groups = ", ".join(f'"{f"{number:02}-$":x<32}"' for number in range(32))
    assert await source_after_group(stage, [groups], [f'"{"31-$":x<32}"']) is API


@clause("RFC 9875", "2.1", "Groups are of one origin: another Host's group of that name is another")
async def test_groups_of_another_origin(stage: Stage) -> None:
    stage.answers(FRESH, 'Cache-Groups: "shared"')
    await stage.ask("Host: other.test", at="/a")
    await stage.ask("Host: api.test", at="/a")
    stage.answers('Cache-Group-Invalidation: "shared"')
    await stage.ask("Host: api.test", method="POST", at="/b", body=b"x")
    sources = [(await stage.ask(f"Host: {host}", at="/a")).source for host in ("other.test", "api.test")]

    assert sources == [STORE, API]


@clause("RFC 9875", "2", "Cache-Groups and Cache-Group-Invalidation reach the client as they are")
async def test_the_fields_are_passed_on(stage: Stage) -> None:
    stage.answers(FRESH, 'Cache-Groups: "a";x=1,  "b"', 'Cache-Group-Invalidation: "never"')
    seen = [await stage.ask(), await stage.ask()]
    assert [one.all("cache-groups") for one in seen] == [['"a";x=1,  "b"']] * 2
    changed = await stage.ask(method="POST", body=b"x", at="/b")
    assert changed.all("cache-group-invalidation") == ['"never"']
