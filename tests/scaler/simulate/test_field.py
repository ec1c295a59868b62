import pytest

from scaler.simulate.field import BadRival, rivals


def called(*names: str) -> list[str]:
    return [rival.name for rival in rivals(names)]


def test_rivals_have_names() -> None:
    assert called("hpa", "hpa-55", "keda", "kpa", "threshold", "oracle") == [
        "hpa-70", "hpa-55", "keda", "kpa", "threshold", "oracle",
    ]  # fmt: skip


def test_a_sweep_is_one_every_five_percent() -> None:
    assert called("hpa-40..60") == ["hpa-40", "hpa-45", "hpa-50", "hpa-55", "hpa-60"]


@pytest.mark.parametrize("name", ["", "hpa-", "hpa-0", "hpa-700", "HPA", "hpa-40..", "vpa"])
def test_nobody_else_is_there(name: str) -> None:
    with pytest.raises(BadRival, match=f"--against: nobody is called `{name}`: there are hpa, "):
        called(name)
