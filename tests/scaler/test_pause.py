import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.decision import Decision
from scaler.pause import KEDAS, NOTHING, OURS, Pause, Paused, apply, read

UP = Decision(replicas=7, reason="12 req/s over 2 per pod")
DOWN = Decision(replicas=2, reason="2 req/s over 2 per pod")
SAME = Decision(replicas=5, reason="as wanted")


@pytest.mark.parametrize("prefix", [pytest.param(OURS, id="ours"), pytest.param(KEDAS, id="KEDA's")])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("paused", "true", {"held_by": "paused"}, id="paused"),
        pytest.param("paused", "false", {}, id="not paused"),
        pytest.param("paused-scale-in", "true", {"scale_in_by": "paused-scale-in"}, id="in"),
        pytest.param("paused-scale-in", "F", {}, id="not in"),
        pytest.param("paused-scale-out", "1", {"scale_out_by": "paused-scale-out"}, id="out"),
        pytest.param("paused-replicas", "5", {"held_by": "paused-replicas", "replicas": 5}, id="replicas"),
        pytest.param("paused-replicas", "0", {"held_by": "paused-replicas", "replicas": 0}, id="no replicas"),
        pytest.param(
            "paused-replicas", "+5", {"held_by": "paused-replicas", "replicas": 5}, id="as Go reads it"
        ),
        pytest.param("pausing", "true", {}, id="another's"),
    ],
)
def test_each_annotation_is_read_under_both_names(
    prefix: str, name: str, value: str, expected: dict[str, str | int]
) -> None:
    found = read({prefix + name: value, "deployment.kubernetes.io/revision": "3"})

    pause = {key: prefix + text if isinstance(text, str) else text for key, text in expected.items()}
    assert Pause(**pause, problems=found.problems) == found  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_what_go_reads_as_true_pauses_without_a_word(text: str) -> None:
    assert Pause(held_by="crowdgate.io/paused") == read({"crowdgate.io/paused": text})


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_what_go_reads_as_false_does_not_pause(text: str) -> None:
    assert read({"crowdgate.io/paused": text}) == NOTHING


@pytest.mark.parametrize("text", ["", "yes", "tRUE", " true", "off"])
def test_what_go_reads_as_neither_pauses_and_is_reported(text: str) -> None:
    expected = Pause(
        held_by="crowdgate.io/paused",
        problems=(f'crowdgate.io/paused must be "true" or "false", not `{text}`: taken for true',),
    )

    assert expected == read({"crowdgate.io/paused": text})


@pytest.mark.parametrize("text", ["", "five", "-1", "5.0", "2147483648", "9" * 5000, " 5", "٥"])
def test_a_number_that_cannot_be_read_holds_what_is_there_and_is_reported(text: str) -> None:
    found = read({"crowdgate.io/paused-replicas": text})
    problem = f"crowdgate.io/paused-replicas must be a number of replicas such as 5, not `{text[:40]}`: held where it is"

    assert Pause(held_by="crowdgate.io/paused-replicas", problems=(problem,)) == found


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param(
            {"crowdgate.io/paused": "false", "autoscaling.keda.sh/paused": "true"}, NOTHING, id="ours says no"
        ),
        pytest.param(
            {"crowdgate.io/paused-replicas": "7", "autoscaling.keda.sh/paused-replicas": "x"},
            Pause(held_by="crowdgate.io/paused-replicas", replicas=7),
            id="ours says how many",
        ),
        pytest.param(
            {"crowdgate.io/paused": "false", "autoscaling.keda.sh/paused-replicas": "4"},
            Pause(held_by="autoscaling.keda.sh/paused-replicas", replicas=4),
            id="each for itself: a number pauses whatever `paused` says",
        ),
    ],
)
def test_ours_counts_where_both_are_there(annotations: dict[str, str], expected: Pause) -> None:
    assert expected == read(annotations)


def test_a_misspelt_one_is_reported() -> None:
    found = read(
        {"crowdgate.io/paused-scalein": "true", "crowdgate.io/warm": "x", "autoscaling.keda.sh/paus": "x"}
    )

    problem = (
        "crowdgate.io/paused-scalein is unknown and pauses nothing: "
        "there are paused, paused-replicas, paused-scale-in, paused-scale-out"
    )
    assert Pause(problems=(problem,)) == found


@pytest.mark.parametrize(
    ("annotations", "recommended", "replicas", "by"),
    [
        pytest.param({"paused": "true"}, UP, 5, "paused", id="paused, up"),
        pytest.param({"paused": "true"}, DOWN, 5, "paused", id="paused, down"),
        pytest.param({"paused-scale-in": "true"}, DOWN, 5, "paused-scale-in", id="in, down"),
        pytest.param({"paused-scale-in": "true"}, UP, 7, None, id="in, up"),
        pytest.param({"paused-scale-in": "true"}, SAME, 5, None, id="in, no change"),
        pytest.param({"paused-scale-out": "true"}, UP, 5, "paused-scale-out", id="out, up"),
        pytest.param({"paused-scale-out": "true"}, DOWN, 2, None, id="out, down"),
        pytest.param({"paused-replicas": "9"}, UP, 9, "paused-replicas", id="a number"),
        pytest.param(
            {"paused-replicas": "9", "paused-scale-out": "true"},
            UP,
            9,
            "paused-replicas",
            id="a number first",
        ),
        pytest.param(
            {"paused-replicas": "9", "paused": "true"}, UP, 9, "paused-replicas", id="a number, paused"
        ),
        pytest.param({"paused-replicas": "x"}, UP, 5, "paused-replicas", id="no number"),
        pytest.param({}, UP, 7, None, id="nothing"),
    ],
)
def test_what_is_recommended_is_told_beside_what_is_done(
    annotations: dict[str, str], recommended: Decision, replicas: int, by: str | None
) -> None:
    pause = read({OURS + name: value for name, value in annotations.items()})
    reason = (
        recommended.reason
        if by is None
        else f"paused by crowdgate.io/{by}; recommended: {recommended.replicas} ({recommended.reason})"
    )

    expected = Paused(done=Decision(replicas=replicas, reason=reason), recommended=recommended)
    assert expected == apply(pause, 5, recommended)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"{prefix}paused{rest}"
                for prefix in (OURS, KEDAS)
                for rest in ("", "-replicas", "-scale-in", "-scale-out")
            ]
        ),
        st.sampled_from(["true", "false", "3", "0", "", "no"]),
    ),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_no_annotation_makes_it_do_anything_but_what_was_recommended_what_is_there_or_what_it_names(
    annotations: dict[str, str], current: int, replicas: int
) -> None:
    pause = read(annotations)
    done = apply(pause, current, Decision(replicas=replicas, reason="")).done.replicas

    assert done in {current, replicas} if pause.replicas is None else done == pause.replicas
