"""The parameters of a run: complete and of their types, or every wrong one named."""

from typing import Any

import pytest

from rgrid.kernel.errors import Invalid
from rgrid.workflows.document import Parameter
from rgrid.workflows.parameters import complete

PARAMETERS = [
    Parameter(name="week", type="date", required=True),
    Parameter(name="limit", type="integer", default=10),
    Parameter(name="note"),
]


def test_parameters_are_the_defaults_overlaid_by_what_was_given() -> None:
    assert complete(PARAMETERS, {}, {"week": "2026-01-09"}) == {"week": "2026-01-09", "limit": 10}
    assert complete(PARAMETERS, {"limit": 5}, {"week": "2026-01-09", "note": None})["limit"] == 5
    assert complete([], {"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["params.week"]),
        ({"week": None}, ["params.week"]),
        ({"week": "soon", "limit": "3", "more": 1}, ["params.more", "params.week", "params.limit"]),
        ({"week": "2026-01-09", "limit": True}, ["params.limit"]),
        ({"week": "2026-01-09T00:00:00Z"}, ["params.week"]),
        ({"week": "2026-01-09", "note": 1}, ["params.note"]),
    ],
)
def test_every_wrong_parameter_is_named(given: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        complete(PARAMETERS, {}, given)
    assert [field for field, _ in refused.value.fields] == fields


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("number", 1.5, "1.5"),
        ("boolean", False, 0),
        ("datetime", "2026-01-09T00:00:00Z", "2026-01-09T00:00:00"),
        ("object", {}, []),
        ("array", [1], {}),
    ],
)
def test_a_parameter_has_its_type(kind: Any, right: object, wrong: object) -> None:
    parameters = [Parameter(name="x", type=kind)]
    assert complete(parameters, {}, {"x": right}) == {"x": right}
    with pytest.raises(Invalid):
        complete(parameters, {}, {"x": wrong})


def test_what_starts_a_run_provides_parameters_that_need_no_declaration() -> None:
    provided = {"item": "north", "index": 0}
    assert complete([Parameter(name="limit", default=1, type="integer")], {}, {}, provided) == {"limit": 1, **provided}
    with pytest.raises(Invalid):
        complete([Parameter(name="index", type="string")], {}, {}, provided)


def test_what_has_a_default_counts_as_declared() -> None:
    assert complete([Parameter(name="week")], {"region": "EU"}, {"region": "US"}) == {"region": "US"}
