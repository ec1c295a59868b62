from scaler.simulate.report import as_json, table
from scaler.simulate.world import Figures

FIGURES = Figures(
    seconds=1000,
    violation_seconds=12,
    offered=10_000.0,
    shed_requests=50.0,
    pod_seconds=7200.0,
    scale_operations=3,
    direction_flips=1,
    lacking=10.0,
    idle=250.0,
    seconds_lacking=12,
    seconds_idle=500,
)


def test_programs_get_names_that_stay() -> None:
    assert as_json("x", {"crowdgate": FIGURES}) == {
        "trace": "x",
        "policies": [
            {
                "name": "crowdgate",
                "violation_seconds": 12,
                "shed_requests": 50.0,
                "shed_ratio": 0.005,
                "pod_hours": 2.0,
                "scale_operations": 3,
                "direction_flips": 1,
                "theta_u": 1.0,
                "theta_o": 25.0,
                "tau_u": 1.2,
                "tau_o": 50.0,
            }
        ],
    }


def test_people_get_columns() -> None:
    assert table({"crowdgate": FIGURES, "hpa-70": Figures()}).splitlines() == [
        "policy     violation s    shed  pod-hours  operations  flips  theta_U  theta_O  tau_U   tau_O",
        "crowdgate           12  0.50 %        2.0           3      1    1.0 %   25.0 %  1.2 %  50.0 %",
        "hpa-70               0  0.00 %        0.0           0      0    0.0 %    0.0 %  0.0 %   0.0 %",
    ]
