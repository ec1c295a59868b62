"""The words fit the columns they go into."""

from proxy.demo import words


def test_countries_are_two_letters() -> None:
    assert {2} == {len(country) for country in [*words.COUNTRIES, *words.CITIES.values()]}


def test_no_word_is_there_twice() -> None:
    for some in (
        words.FIRST_NAMES,
        words.LAST_NAMES,
        words.COUNTRIES,
        words.PLACES,
        words.MOODS,
        words.SUBJECTS,
    ):
        assert len(some) == len(set(some))
