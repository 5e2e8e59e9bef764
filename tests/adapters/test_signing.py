"""Signed addresses: they open what was signed, and nothing else, and not for ever."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.adapters.signing import Grant, Signer
from rgrid.kernel.errors import Forbidden, Gone

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)
GRANT = Grant(expires=int(NOW.timestamp()) + 60, size=12, sha256="ab" * 32, filename="a & b=c \u20ac.csv")
SIGNER = Signer([b"k" * 32])
PATH = "/objects/uploads/exec_1/a b.csv"
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)


@given(texts, st.none() | st.integers(0, 2**60), st.none() | texts)
def test_what_was_signed_is_granted(path: str, size: int | None, filename: str | None) -> None:
    grant = Grant(expires=int(NOW.timestamp()) + 1, size=size, filename=filename)
    assert SIGNER.verify("PUT", path, SIGNER.sign("PUT", path, grant), NOW) == grant


@given(st.data())
def test_a_query_with_any_character_changed_is_refused_or_means_the_same(data: st.DataObject) -> None:
    query = SIGNER.sign("GET", PATH, GRANT)
    index = data.draw(st.integers(0, len(query) - 1))
    other = data.draw(st.sampled_from("abcdef0123456789%&=+;#. A"))
    changed = query[:index] + other + query[index + 1 :]
    try:
        assert SIGNER.verify("GET", PATH, changed, NOW) == GRANT
    except Forbidden as refusal:
        assert refusal.code == "signature_invalid"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", PATH), ("DELETE", PATH), ("GET", PATH + "x"), ("GET", "/objects/uploads/exec_2/a b.csv")],
)
def test_another_method_or_path_is_refused(method: str, path: str) -> None:
    with pytest.raises(Forbidden):
        SIGNER.verify(method, path, SIGNER.sign("GET", PATH, GRANT), NOW)


@pytest.mark.parametrize("field", ["size", "sha256", "filename", "expires", "signature"])
def test_a_part_left_out_or_given_twice_is_refused(field: str) -> None:
    pairs = parse_qsl(SIGNER.sign("PUT", PATH, GRANT))
    without = [pair for pair in pairs if pair[0] != field]
    twice = [*pairs, next(pair for pair in pairs if pair[0] == field)]
    for changed in (without, twice, [*pairs, ("extra", "1")], []):
        with pytest.raises(Forbidden):
            SIGNER.verify("PUT", PATH, urlencode(changed), NOW)


def test_an_expired_address_is_gone_but_a_forged_one_is_refused_even_then() -> None:
    query = SIGNER.sign("GET", PATH, GRANT)
    late = NOW + timedelta(seconds=60)
    with pytest.raises(Gone):
        SIGNER.verify("GET", PATH, query, late)
    with pytest.raises(Forbidden):
        SIGNER.verify("GET", PATH + "x", query, late)


def test_who_may_get_may_head_and_not_the_other_way_round() -> None:
    assert SIGNER.verify("HEAD", PATH, SIGNER.sign("GET", PATH, GRANT), NOW) == GRANT
    with pytest.raises(Forbidden):
        SIGNER.verify("GET", PATH, SIGNER.sign("HEAD", PATH, GRANT), NOW)


def test_an_earlier_key_still_opens_and_a_strange_one_does_not() -> None:
    query = SIGNER.sign("GET", PATH, GRANT)
    assert Signer([b"n" * 32, b"k" * 32]).verify("GET", PATH, query, NOW) == GRANT
    with pytest.raises(Forbidden):
        Signer([b"n" * 32]).verify("GET", PATH, query, NOW)


def test_a_whole_address_reaches_the_server_as_the_signed_path() -> None:
    address = urlsplit(SIGNER.url("http://127.0.0.1:8000/", "GET", PATH, GRANT))
    assert address.path == "/objects/uploads/exec_1/a%20b.csv"
    assert SIGNER.verify("GET", PATH, address.query, NOW) == GRANT
