"""The input cache over HTTP: no file travels twice, and nobody gets a file under another name."""

import hashlib
from typing import Any

import pytest
from api.one_service import Live, fields, problem
from hypothesis import given
from hypothesis import strategies as st

from rgrid.kernel.input_hash import input_hash

SCRIPT = "import pathlib; print(pathlib.Path('a.csv').read_text(), end='')"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hash_of(files: dict[str, bytes]) -> str:
    return input_hash((name, sha256(data)) for name, data in files.items())


def brought(live: Live, files: dict[str, bytes], script: str = SCRIPT) -> dict[str, Any]:
    """An execution whose inputs were uploaded and verified."""
    execution = live.submit(script, input_files=list(files))
    for name, data in files.items():
        assert live.http.put(execution["upload_urls"][name], content=data).status_code == 200
    done = live.http.post(f"/api/v1/executions/{execution['execution_id']}/inputs/complete")
    assert done.status_code == 200, done.text
    return execution


def remembered(live: Live, files: dict[str, bytes]) -> dict[str, str]:
    """The references of a set that is in the cache from now on."""
    brought(live, files)
    references = {name: f"objects/{sha256(data)}" for name, data in files.items()}
    answer = live.http.post("/api/v1/input-cache", json={"input_hash": hash_of(files), "file_references": references})
    assert answer.status_code == 200, answer.text
    return references


def test_the_hash_is_that_of_the_contract() -> None:
    x, y = sha256(b"x\n"), sha256(b"y\n")
    first = input_hash([("a.csv", x), ("b.csv", y)])
    assert first == "d0867bc2fee78aa26cf9800322d21e8b28490fb49e1e27a74cc3da6bb4aa702d"
    assert input_hash([("b.csv", y), ("a.csv", x)]) == first
    swapped = input_hash([("a.csv", y), ("b.csv", x)])
    assert swapped == "e75bea6d4a2af0c8bb6b3a466bcdcf3a21ddc2233c5cd72f29f1725b76b6d630"


NAMES = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="/\\"), min_size=1, max_size=12)
SETS = st.dictionaries(NAMES, st.binary(max_size=4), min_size=1, max_size=4)


@given(SETS, SETS)
def test_other_names_or_contents_never_share_a_hash(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (hash_of(one) == hash_of(other)) == (one == other)
    shuffled = dict(reversed(list(one.items())))
    assert hash_of(shuffled) == hash_of(one)


def test_an_execution_whose_inputs_are_all_cached_starts_queued_and_reads_them(live: Live) -> None:
    files = {"a.csv": b"cached\n", "folder/b.csv": b"too\n"}
    wanted = hash_of(files)
    before = live.http.get(f"/api/v1/input-cache/{wanted}").json()
    assert before == {"cache_hit": False, "file_references": None, "expires_at": None}
    references = remembered(live, files)
    again = live.http.post("/api/v1/input-cache", json={"input_hash": wanted, "file_references": references})
    assert again.json() == {"stored": True, "existing": True}

    found = live.http.get(f"/api/v1/input-cache/{wanted}").json()
    assert found["cache_hit"] is True
    assert found["file_references"] == references
    assert live.http.get(f"/api/v1/input-cache/{wanted}").json()["expires_at"] == found["expires_at"]

    second = live.submit(SCRIPT, input_files=list(files), cached_input_refs=found["file_references"])
    assert second["status"] == "queued"
    assert second["upload_urls"] is None
    ended = live.ended(second["execution_id"])
    assert (ended["status"], ended["stdout"]) == ("completed", "cached\n")
    assert [one["state"] for one in ended["inputs"]] == ["cached", "cached"]
    assert [one["size_bytes"] for one in ended["inputs"]] == [7, 4]
    retried = live.http.post(f"/api/v1/executions/{second['execution_id']}/retry").json()
    assert retried["status"] == "queued"
    assert live.ended(retried["execution_id"])["stdout"] == "cached\n"


def test_only_what_is_not_cached_is_still_to_be_uploaded(live: Live) -> None:
    references = remembered(live, {"a.csv": b"half\n"})
    execution = live.submit(SCRIPT, input_files=["a.csv", "new.csv"], cached_input_refs=references)
    assert execution["status"] == "awaiting_inputs"
    assert list(execution["upload_urls"]) == ["new.csv"]
    path = f"/api/v1/executions/{execution['execution_id']}/inputs"
    problem(live.http.post(f"{path}/complete"), 409, "inputs_incomplete")
    states = {one["name"]: (one["state"], one["upload_url"] is None) for one in live.page(path)["data"]}
    assert states == {"a.csv": ("cached", True), "new.csv": ("pending", False)}
    assert live.http.put(execution["upload_urls"]["new.csv"], content=b"n").status_code == 200
    assert {one["state"] for one in live.page(path)["data"]} == {"cached", "uploaded"}
    assert live.http.post(f"{path}/complete").status_code == 200
    ended = live.ended(execution["execution_id"])
    assert (ended["stdout"], [one["state"] for one in ended["inputs"]]) == ("half\n", ["cached", "verified"])
    listed = live.page(f"/api/v1/executions/{execution['execution_id']}/artifacts", artifact_type="input")["data"]
    assert sorted(one["filename"] for one in listed) == ["a.csv", "new.csv"]


def test_a_reference_counts_only_under_its_own_name_and_only_from_the_cache(live: Live) -> None:
    references = remembered(live, {"a.csv": b"mine\n"})
    uncached = brought(live, {"a.csv": b"never cached\n"})
    script = f"objects/{uncached['script_sha256']}"
    for refs in (
        {"b.csv": references["a.csv"]},
        {"a.csv": f"objects/{sha256(b'never cached' + bytes([10]))}"},
        {"a.csv": script},
        {"a.csv": references["a.csv"].removeprefix("objects/")},
        {"a.csv": "../" + references["a.csv"]},
        {"a.csv": "objects/../objects/" + "0" * 64},
        {"a.csv": ""},
    ):
        answer = live.create(script_content=SCRIPT, input_files=list(refs), cached_input_refs=refs)
        problem(answer, 404, "cache_reference_unknown")
    declared = {"name": "a.csv", "sha256": "0" * 64}
    answer = live.create(script_content=SCRIPT, input_files=[declared], cached_input_refs=references)
    problem(answer, 404, "cache_reference_unknown")
    answer = live.create(script_content=SCRIPT, input_files=["other.csv"], cached_input_refs=references)
    problem(answer, 400, "cached_input_undeclared")
    assert fields(answer) == {"cached_input_refs.a.csv"}


def test_only_verified_inputs_under_their_true_hash_are_remembered(live: Live) -> None:
    files = {"a.csv": b"true\n"}
    references = {"a.csv": f"objects/{sha256(files['a.csv'])}"}

    def store(input_hash: str, references: dict[str, str]) -> Any:
        return live.http.post("/api/v1/input-cache", json={"input_hash": input_hash, "file_references": references})

    problem(store(hash_of(files), references), 404, "cache_reference_unknown")
    pending = live.submit(SCRIPT, input_files=["a.csv"])
    assert live.http.put(pending["upload_urls"]["a.csv"], content=files["a.csv"]).status_code == 200
    problem(store(hash_of(files), references), 404, "cache_reference_unknown")
    script = {"a.csv": f"objects/{pending['script_sha256']}"}
    problem(store(input_hash([("a.csv", pending["script_sha256"])]), script), 404, "cache_reference_unknown")

    brought(live, files)
    problem(store(hash_of({"b.csv": b"true\n"}), references), 400, "input_hash_mismatch")
    problem(store(hash_of(files).upper(), references), 400, "bad_input_hash")
    problem(store("short", references), 422, "validation_failed")
    problem(store(hash_of(files), {}), 422, "validation_failed")
    problem(store(hash_of(files), {"../a.csv": references["a.csv"]}), 400, "bad_file_name")
    assert store(hash_of(files), references).json() == {"stored": True, "existing": False}


@pytest.mark.parametrize("text", ["x", "0" * 63, "A" * 64, "g" * 64, "0" * 65])
def test_what_is_no_hash_is_refused(live: Live, text: str) -> None:
    problem(live.http.get(f"/api/v1/input-cache/{text}"), 400, "bad_input_hash")


def test_the_cache_needs_scope_run(live: Live) -> None:
    reader = live.key("read")
    problem(live.call("GET", f"/api/v1/input-cache/{'0' * 64}", reader), 403, "scope_missing")
    problem(live.call("POST", "/api/v1/input-cache", reader, json={}), 403, "scope_missing")
