from xml.etree import ElementTree as ET

from scaler.simulate.plot import html, svg
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment, World


def a_world(rates: list[float]) -> World:
    world = World(of_rates("x", rates), Deployment())
    world.advance(len(rates))
    return world


def test_each_policy_is_a_line_and_what_is_needed_an_area() -> None:
    drawn = ET.fromstring(
        svg("a < b", {"crowdgate": a_world([100.0] * 5000), "hpa-70": a_world([10.0] * 5000)})
    )
    tags = [part.tag.rpartition("}")[2] for part in drawn]
    assert (tags.count("polyline"), tags.count("polygon")) == (2, 1)
    assert {"a < b", "crowdgate", "hpa-70"} <= {part.text for part in drawn}


def test_a_second_s_peak_is_not_lost_among_thousands() -> None:
    rates = [10.0] * 100_000
    rates[50_000] = 4500.0
    text = svg("x", {"crowdgate": a_world(rates)})
    assert ">100<" in text


def test_a_page_has_the_table_too() -> None:
    assert "<pre>a &lt; b</pre>" in html("x", {"crowdgate": a_world([10.0])}, "a < b")
