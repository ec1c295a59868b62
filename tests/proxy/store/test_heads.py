import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.heads import Forms
from proxy.wire.fields import TOKEN, block

NAMES = st.from_regex(rb"\A%b{1,5}\Z" % TOKEN)
VALUES = st.from_regex(rb"\A(|[!-~\x80-\xff%]([ -~\x80-\xff]{0,6}[!-~\x80-\xff])?)\Z")


def a_head(**values: str) -> bytes:
    """Fields by their names, as lines."""
    return block(tuple((name.encode(), value.encode()) for name, value in values.items()))


def test_what_differs_is_all_that_a_head_keeps() -> None:
    forms = Forms()
    forms.split("events", a_head(Server="x", ETag='"1"', Date="now"))
    first_form, first = forms.split("events", a_head(Server="x", ETag='"2"', Date="then"))
    form, filling = forms.split("events", a_head(Server="x", ETag='"3"', Date="now"))

    assert (first, filling) == (b'"2"\nthen', b'"3"\nnow')
    assert form is first_form


def test_a_form_grows_gaps_and_those_who_have_it_keep_theirs() -> None:
    forms = Forms()
    heads = [a_head(Server="x", A="1"), a_head(Server="x", A="2"), a_head(Server="y", A="2")]
    forms.split("events", heads[0])
    split = [forms.split("events", head) for head in heads]

    assert [filling for _, filling in split] == [b"", b"2", b"y\n2"]
    assert [form and form.head(filling) for form, filling in split] == heads


@pytest.mark.parametrize(
    ("route", "head"),
    [
        pytest.param("artists", a_head(A="1"), id="another route"),
        pytest.param("events", a_head(B="1"), id="another name"),
        pytest.param("events", a_head(a="1"), id="another case"),
        pytest.param("events", a_head(A="1", B="2"), id="more fields"),
        pytest.param("events", b"", id="no fields"),
        pytest.param("events", a_head(A="1" * 5000), id="too long"),
    ],
)
def test_what_has_no_like_is_kept_as_it_is(route: str, head: bytes) -> None:
    forms = Forms()
    forms.split("events", a_head(A="1"))

    assert forms.split(route, head) == (None, head)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"A: 1\n\r\n", id="a bare LF"),
        pytest.param(b"A:1\r\n", id="no space"),
        pytest.param(b"A: 1", id="no end"),
        pytest.param(b"A\r\n", id="no colon"),
        pytest.param(b"\r\nA: 1\r\n", id="an empty line"),
        pytest.param(b"\n\n\n", id="ends of line"),
    ],
)
def test_lines_that_no_api_s_answer_has_are_given_back_as_they_came(head: bytes) -> None:
    forms = Forms()
    for _ in range(3):
        assert forms.split("events", head) == (None, head)


def test_forms_keep_to_their_room() -> None:
    forms = Forms(max_bytes=1000)
    split = [forms.split(f"route-{number // 2}", a_head(A="x" * 90)) for number in range(40)]
    made = {id(form) for form, _ in split if form is not None}

    assert len(made) == 5


def test_where_there_is_no_room_for_another_gap_the_form_that_is_there_stays() -> None:
    forms = Forms(max_bytes=20)
    forms.split("events", a_head(A="1"))
    head = a_head(A="2")

    assert forms.split("events", head) == (None, head)
    assert forms.split("events", a_head(A="1"))[0] is not None


@given(
    st.lists(NAMES, min_size=1, max_size=4).flatmap(
        lambda names: st.lists(st.tuples(*[st.tuples(st.just(name), VALUES) for name in names]), max_size=6)
    )
)
def test_every_head_is_given_back_as_it_came(heads: list[tuple[tuple[bytes, bytes], ...]]) -> None:
    forms = Forms()
    for fields in heads:
        form, filling = forms.split("events", block(fields))
        assert (filling if form is None else form.head(filling)) == block(fields)


@given(st.lists(st.text("A:% \r\nb", max_size=12).map(str.encode), max_size=6))
def test_so_is_every_other_text(heads: list[bytes]) -> None:
    forms = Forms()
    for head in heads:
        form, filling = forms.split("events", head)
        assert (filling if form is None else form.head(filling)) == head
