"""Bodies and query strings: good ones are never refused, bad ones with every wrong field."""

import json
import string
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from rgrid.kernel.errors import Invalid, Malformed
from rgrid.web.body_rules import careless
from rgrid.web.decoding import BodyDecoder, QueryDecoder, parse_moment, split_query
from rgrid.web.problems import UnsupportedMediaType

JSON = "application/json"


class Step(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=8)]
    type: Literal["RUN", "WAIT"]
    seconds: Annotated[float, Meta(ge=0, le=10)] = 1


class File(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    size_bytes: Annotated[int, Meta(ge=0)] | None = None


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    steps: Annotated[list[Step], Meta(min_length=1, max_length=5)]
    files: list[str | File] = []
    env: dict[str, Annotated[str, Meta(max_length=4)]] = {}
    params: dict[str, Any] = {}
    run_at: Annotated[datetime, Meta(tz=True)] | None = None
    day: date | None = None


PLAN = BodyDecoder(Plan)


def refused(body: Any, decoder: BodyDecoder = PLAN) -> dict[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Malformed) as caught:
        decoder.decode(raw, JSON)
    return dict(caught.value.fields)


def test_every_wrong_field_is_listed_with_its_path() -> None:
    found = refused(
        {
            "steps": [{"name": "a", "type": "RUN"}, {"name": "", "type": "JUMP", "seconds": "x"}, {"extra": 1}],
            "files": ["a.csv", {"size_bytes": -1}, 3],
            "env": {"A": "12345", "B": 1},
            "run_at": "2026-01-01T00:00:00",
            "day": "yesterday",
            "colour": "red",
        }
    )
    assert set(found) == {
        "steps[1].name", "steps[1].type", "steps[1].seconds", "steps[2].name", "steps[2].type", "steps[2].extra",
        "files[1].path", "files[1].size_bytes", "files[2]", "env.A", "env.B", "run_at", "day", "colour",
    }  # fmt: skip
    assert found["colour"] == "There is no such field."
    assert found["steps[2].name"] == "This field is required."
    assert found["steps[1].type"] == "Expected one of RUN, WAIT; got 'JUMP'."
    assert found["files[2]"] == "Expected str | object, got int."


def test_a_body_that_is_no_object_is_one_wrong_field() -> None:
    assert refused([]) == {"body": "Expected object, got array."}
    assert refused(None) == {"body": "Expected object, got null."}


@pytest.mark.parametrize("raw", [b"", b"{", b"{} {}", b'{"a": NaN}', b"\xff\xfe", b'{"a": "\n"}', b"[" * 100_000])
def test_what_is_no_json_is_refused_as_malformed(raw: bytes) -> None:
    with pytest.raises(Invalid, match=r"not valid JSON|nested too deeply") as caught:
        BodyDecoder(dict[str, Any]).decode(raw, JSON)
    assert caught.value.code == "malformed_json"


def test_nul_and_half_surrogates_are_refused_wherever_they_are() -> None:
    whole = (
        b'{"steps":[{"name":"a\\u0000","type":"RUN"}],"params":{"x":["\\ud800"],"k\\u0000":1},"env":{"E":"\\udc00"}}'
    )
    assert set(refused(whole)) == {"steps[0].name", "params.x[0]", "params", "env.E"}


def test_a_wrong_name_is_shown_in_a_form_that_can_be_sent() -> None:
    for path, why in refused(b'{"steps":[{"name":"a","type":"RUN"}],"\\ud800":1}').items():
        assert (path + why).encode()
    (path,) = set(refused({"steps": [{"name": "a", "type": "RUN"}], "x" * 10_000: 1}))
    assert len(path) < 1000


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    plan = PLAN.decode(b'{"steps":[{"name":"\\\\u0000","type":"RUN"}]}', JSON)
    assert plan.steps[0].name == "\\u0000"


def test_an_integer_beyond_64_bits_is_out_of_range() -> None:
    body = {"steps": [{"name": "a", "type": "RUN"}], "files": [{"path": "a", "size_bytes": 2**63}]}
    assert refused(body) == {"files[0].size_bytes": "The number is out of range."}
    body["files"][0]["size_bytes"] = 2**63 - 1  # type: ignore[index]
    assert PLAN.decode(json.dumps(body).encode(), JSON).files[0].size_bytes == 2**63 - 1


@pytest.mark.parametrize("media", [None, "", "text/plain", "application/xml", "application/json; charset=utf-16"])
def test_another_media_type_is_refused(media: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        PLAN.decode(b"{}", media)


@pytest.mark.parametrize("media", [JSON, "Application/JSON; charset=UTF-8", "application/merge-patch+json"])
def test_json_by_another_spelling_is_read(media: str) -> None:
    assert PLAN.decode(b'{"steps":[{"name":"a","type":"RUN"}]}', media).steps[0].name == "a"


class Loose(msgspec.Struct):
    at: datetime | None = None


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    parts: list[Loose] = []
    at: Annotated[datetime, Meta(tz=True)] | None = None
    free: dict[str, Any] = {}


def test_a_body_type_that_would_let_faults_through_is_found() -> None:
    assert careless(Plan) == []
    assert careless(Outer) == [
        "body.parts[]: Loose needs forbid_unknown_fields=True",
        "body.parts[].at: a time needs Meta(tz=True)",
    ]


# ---------------------------------------------------------------- any struct

_NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=6)
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_KINDS: list[tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (str, _TEXT, st.just(1)),
    (Annotated[str, Meta(max_length=3)], st.text(string.ascii_letters, max_size=3), st.just("abcd")),
    (Annotated[str, Meta(pattern="^[a-z]+$")], st.just("abc"), st.just("A")),
    (Annotated[int, Meta(ge=0, le=9)], st.integers(0, 9), st.sampled_from([-1, 10, "1", 1.5, None, True])),
    (int, st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**63, "x", 0.5])),
    (Annotated[float, Meta(gt=0)], st.sampled_from([1, 0.5]), st.sampled_from([0, -1.5, "1"])),
    (bool, st.booleans(), st.sampled_from([0, 1, "true"])),
    (Literal["a", "b"], st.sampled_from("ab"), st.sampled_from(["c", 1])),
    (datetime, st.just("2026-01-01T00:00:00Z"), st.sampled_from(["2026-13-01T00:00:00Z", 1, ""])),
    (str | None, _TEXT | st.none(), st.just([])),
]


@st.composite
def cases(draw: st.DrawFn, depth: int = 0) -> tuple[Any, Any, list[str]]:
    """(a struct type, a value for it, the paths that are wrong in the value)"""
    fields: list[tuple[str, Any]] = []
    value: dict[str, Any] = {}
    wrong: list[str] = []
    for name in draw(st.lists(_NAMES, min_size=1, max_size=5, unique=True)):
        how = draw(st.sampled_from(["plain", "plain", "list", "dict", "struct"] if depth < 2 else ["plain"]))
        if how == "plain":
            kind, good, bad = draw(st.sampled_from(_KINDS))
            spoil = draw(st.booleans())
            value[name] = draw(bad if spoil else good)
            wrong += [name] if spoil else []
        elif how == "struct":
            kind, value[name], below = draw(cases(depth + 1))
            wrong += [f"{name}.{path}" for path in below]
        else:
            item, good, bad = draw(st.sampled_from(_KINDS))
            spoiled = draw(st.lists(st.booleans(), max_size=4))
            members = [draw(bad if spoil else good) for spoil in spoiled]
            kind = list[item] if how == "list" else dict[str, item]
            value[name] = members if how == "list" else {f"k{i}": member for i, member in enumerate(members)}
            at = "{}[{}]" if how == "list" else "{}.k{}"
            wrong += [at.format(name, index) for index, spoil in enumerate(spoiled) if spoil]
        fields.append((name, kind))
    if draw(st.integers(0, 5)) == 0:
        fields.append(("Missing", int))
        wrong.append("Missing")
    if draw(st.integers(0, 5)) == 0:
        value["Unknown"] = 1
        wrong.append("Unknown")
    return msgspec.defstruct("Case", fields, forbid_unknown_fields=True), value, wrong


@settings(max_examples=150, deadline=None)
@given(cases())
def test_any_struct_lists_exactly_its_wrong_fields_and_good_input_passes(case: tuple[Any, Any, list[str]]) -> None:
    kind, value, wrong = case
    decoder, raw = BodyDecoder(kind), json.dumps(value).encode()
    if not wrong:
        assert msgspec.to_builtins(decoder.decode(raw, JSON)).keys() == value.keys()
        return
    assert sorted(refused(raw, decoder)) == sorted(wrong)


# ---------------------------------------------------------------- query strings


class Filters(msgspec.Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    status: Literal["queued", "running"] | None = None
    cpu: Annotated[float, Meta(ge=0.25)] = 1
    enabled: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    day: date | None = None
    name: str | None = None
    metadata: dict[str, str] | None = None


FILTERS = QueryDecoder(Filters)


def query(text: str) -> Any:
    return FILTERS.decode(split_query(text.encode()))[0]


def query_refused(text: str) -> Malformed:
    with pytest.raises(Malformed) as caught:
        query(text)
    return caught.value


def test_parameters_are_read_as_their_types() -> None:
    found = query("limit=7&status=queued&cpu=.5&enabled=1&since=2026-01-02&day=2026-01-03&name=a%20b+c%2B")
    assert found == Filters(
        limit=7, status="queued", cpu=0.5, enabled=True, since=datetime(2026, 1, 2, tzinfo=UTC),
        day=date(2026, 1, 3), name="a b c+",
    )  # fmt: skip
    assert [query(f"enabled={text}").enabled for text in ("true", "false", "1", "0")] == [True, False, True, False]
    assert query("") == Filters()


def test_every_wrong_parameter_is_listed() -> None:
    error = query_refused("limit=0&status=QUEUED&cpu=nan&enabled=yes&since=now&day=2026-02-30")
    assert [path for path, _ in error.fields] == [
        "query.limit", "query.status", "query.cpu", "query.enabled", "query.since", "query.day",
    ]  # fmt: skip
    assert error.code == "validation_failed"


def test_an_unknown_parameter_is_refused_by_name_beside_the_other_faults() -> None:
    error = query_refused("colour=red&limit=x")
    assert error.code == "unknown_parameter"
    assert [path for path, _ in error.fields] == ["query.colour", "query.limit"]


@pytest.mark.parametrize("text", ["limit=1&limit=2", "limit=1&limit=1", "name=a&name=b"])
def test_a_parameter_given_twice_is_refused(text: str) -> None:
    assert "more than once" in query_refused(text).fields[0][1]


def test_a_map_repeats_and_takes_any_key() -> None:
    found = query("metadata[a.b]=1&metadata%5Bx%5By%5D%5D=2&metadata[]=3&metadata[a.b]=1")
    assert found.metadata == {"a.b": "1", "x[y]": "2", "": "3"}
    assert query_refused("metadata[a]=1&metadata[a]=2").fields[0][0] == "query.metadata[a]"
    assert query_refused("metadata=1").code == "unknown_parameter"


@pytest.mark.parametrize("text", ["name=%00", "name=%ff", "name=%ed%a0%80", "%00=1"])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    assert query_refused(text).fields


def test_since_after_until_makes_no_sense() -> None:
    with pytest.raises(Invalid) as caught:
        query("since=2026-01-02&until=2026-01-01")
    assert caught.value.code == "invalid_range"
    assert query("since=2026-01-01&until=2026-01-01")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02t03:04:05.123456789z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02T03:04:05 02:00", "2026-01-02T01:04:05+00:00"),
    ],
)
def test_times_mean_utc_unless_they_say_otherwise(text: str, moment: str) -> None:
    found = parse_moment(text)
    assert found is not None
    assert found.isoformat() == moment


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-1-2", "2026-01-02T25:00:00Z", "٢٠٢٦-01-02", "0001-01-01T00:00:00+10:00"]
)
def test_other_texts_are_no_times(text: str) -> None:
    assert parse_moment(text) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_query_string_is_read_or_refused(text: str) -> None:
    try:
        FILTERS.decode(split_query(text.encode("utf-8", "surrogatepass")))
    except (Malformed, Invalid) as error:
        assert error.detail
