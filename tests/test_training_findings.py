from training.findings import Figure, Findings, Row, as_json, columns, table
from training.tasks import NotScorable

FOUND = Findings(
    task="some",
    rule="a rule",
    rows=(
        Row("one", "x", 4, 2, {"a": Figure(0.5, (0.25, 0.75), 0.1, 0.2)}),
        Row("one", "y", 4, 2, {"a": Figure(0.6, None, 0.1, 0.2), "b": Figure(1.0, None, 0.3)}),
        Row("macro", "x", None, None, {"b": Figure(1.0, (1.0, 1.0), 0.3)}),
    ),
    model_ids={"x": "id"},
    unreadable=("gone: why",),
    not_scorable=(NotScorable("two", "no item"),),
)


def test_chance_and_the_commonest_answer_stand_above_the_methods() -> None:
    assert columns(FOUND) == ("name", "method", "queries", "patients", "a", "b")
    assert table(FOUND) == [
        ("one", "(chance)", "4", "2", "0.100", "0.300"),
        ("one", "(majority)", "4", "2", "0.200", ""),
        ("one", "x", "4", "2", "0.500 0.25..0.75", ""),
        ("one", "y", "4", "2", "0.600", "1.000"),
        ("macro", "(chance)", "", "", "", "0.300"),
        ("macro", "x", "", "", "", "1.000 1.00..1.00"),
    ]


def test_json_has_every_value_with_interval_and_chance() -> None:
    said = as_json(FOUND)

    assert (said["task"], said["rule"], said["model_ids"]) == ("some", "a rule", {"x": "id"})
    assert said["rows"][0] == {
        "name": "one",
        "method": "x",
        "queries": 4,
        "resampled_units": 2,
        "metrics": {
            "a": {"value": 0.5, "interval": (0.25, 0.75), "chance": 0.1, "majority": 0.2},
        },
    }
    assert said["rows"][2]["queries"] is None
    assert (said["unreadable"], said["not_scorable"]) == (["gone: why"], {"two": "no item"})
