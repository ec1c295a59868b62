from scaler.simulate.classic import Classic
from scaler.simulate.play import play
from scaler.simulate.shapes import drawn
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment


def test_it_doubles_where_load_is_high_and_again_while_those_pods_start() -> None:
    world = play(of_rates("x", [40.0] * 60 + [400.0] * 60), Classic(), Deployment(pod_start_s=60))
    assert list(world.history[::15]) == [1, 1, 2, 4, 8, 16, 32, 64]


def test_on_a_day_it_costs_a_multiple_of_what_is_needed() -> None:
    trace = drawn("diurnal").trace
    figures = play(trace, Classic(), Deployment()).figures
    assert figures.theta_o > 60
