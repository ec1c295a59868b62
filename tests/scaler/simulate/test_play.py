from scaler.simulate.play import play
from scaler.simulate.trace import of_rates
from scaler.simulate.world import Deployment, World


class Fixed:
    """Wants what it is told to want, every ten seconds."""

    name, period_s = "fixed", 10

    def __init__(self, *wants: int) -> None:
        self.wants = list(wants)
        self.seen: list[int] = []

    def replicas(self, world: World) -> int:
        self.seen.append(world.now)
        return self.wants.pop(0) if self.wants else world.replicas


def test_a_policy_decides_every_period_and_at_the_end() -> None:
    policy = Fixed(3)
    world = play(of_rates("x", [1.0] * 25), policy, Deployment())
    assert (policy.seen, list(world.history)) == ([10, 20, 25], [1] * 10 + [3] * 15)


def test_who_waits_is_told_how_far_it_is() -> None:
    heard: list[int] = []
    play(of_rates("x", [1.0] * 8000), Fixed(), Deployment(), heard.append)
    assert heard == [3600, 3600]
