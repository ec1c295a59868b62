"""Random numbers are the same everywhere."""

from proxy.demo.draws import draws


def test_the_same_seed_draws_the_same_numbers_on_every_python() -> None:
    draw = draws(7)

    assert [draw(), draw(), draw()] == [0.32383276483316237, 0.15084917392450192, 0.6509344730398537]
