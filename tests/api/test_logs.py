"""Logs over HTTP: what was printed, in order, in pages or as text, however odd it was."""

from typing import Any

import pytest
from api.one_service import Live, moment, problem


def path_of(execution: dict[str, Any]) -> str:
    return f"/api/v1/executions/{execution['execution_id']}/logs"


def lines(live: Live, execution: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = live.page(path_of(execution), **{"limit": 1000, **query})["data"]
    return rows


@pytest.fixture(scope="module")
def talkative(live: Live) -> dict[str, Any]:
    """Fifty lines, every fifth on stderr."""
    script = (
        "import sys\n"
        "for n in range(50):\n"
        "    print(f'line {n}', file=sys.stderr if n % 5 == 4 else sys.stdout, flush=True)\n"
    )
    return live.run(script)


def test_lines_have_one_growing_number_over_both_streams(live: Live, talkative: dict[str, Any]) -> None:
    rows = lines(live, talkative)
    assert [row["sequence_number"] for row in rows] == list(range(50))
    assert sorted(int(row["message"].split()[1]) for row in rows) == list(range(50))
    assert {row["stream"] for row in rows if int(row["message"].split()[1]) % 5 == 4} == {"stderr"}
    assert {row["attempt"] for row in rows} == {1}
    times = [moment(row["timestamp"]) for row in rows]
    assert times == sorted(times)
    assert len({row["log_id"] for row in rows}) == 50
    assert all(row["log_id"].startswith("log_") for row in rows)


def test_lines_of_one_stream_or_attempt_can_be_asked_for(live: Live, talkative: dict[str, Any]) -> None:
    errors = live.page(path_of(talkative), stream="stderr", limit=1000)
    assert len(errors["data"]) == errors["pagination"]["total"] == 10
    assert {row["stream"] for row in errors["data"]} == {"stderr"}
    assert live.page(path_of(talkative), attempt=1)["pagination"]["total"] == 50
    assert live.page(path_of(talkative), attempt=2)["pagination"]["total"] == 0


def test_pages_go_on_after_the_last_line_seen_and_by_cursor(live: Live, talkative: dict[str, Any]) -> None:
    whole = lines(live, talkative)
    first = live.page(path_of(talkative), after=9, limit=5)
    assert first["data"] == whole[10:15]
    assert first["pagination"]["total"] == 40
    second = live.page(path_of(talkative), after=9, limit=5, cursor=first["pagination"]["next_cursor"])
    assert second["data"] == whole[15:20]
    assert live.page(path_of(talkative), offset=45)["data"] == whole[45:]
    assert live.page(path_of(talkative), after=49)["data"] == []
    assert live.page(path_of(talkative), after=2**62)["data"] == []


def test_a_tail_is_the_last_lines_all_of_them(live: Live, talkative: dict[str, Any]) -> None:
    whole = lines(live, talkative)
    tail = live.page(path_of(talkative), tail=30)
    assert tail["data"] == whole[20:]
    assert tail["pagination"] == {"offset": 0, "limit": 30, "total": 30, "has_more": False, "next_cursor": None}
    assert lines(live, talkative, tail=1000) == whole
    assert (
        live.page(path_of(talkative), tail=2, stream="stderr")["data"]
        == [row for row in whole if row["stream"] == "stderr"][-2:]
    )
    text = live.http.get(path_of(talkative), params={"tail": 2, "format": "text"})
    assert text.text == "".join(f"{row['message']}\n" for row in whole[-2:])
    problem(live.http.get(path_of(talkative), params={"tail": 2, "after": 5}), 400, "invalid")


def test_text_is_the_messages_alone_whatever_the_limit(live: Live, talkative: dict[str, Any]) -> None:
    answer = live.http.get(path_of(talkative), params={"format": "text", "limit": 1})
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == "".join(f"{row['message']}\n" for row in lines(live, talkative))
    errors = lines(live, talkative, stream="stderr")
    seen = errors[-3]["sequence_number"]
    only = live.http.get(path_of(talkative), params={"format": "text", "stream": "stderr", "after": seen})
    assert only.text == "line 44\nline 49\n"


@pytest.mark.parametrize(
    "query",
    ["after=-2", "after=x", "after=" + "9" * 25, "stream=both", "stream=STDOUT", "attempt=0", "tail=0", "tail=1001",
     "format=csv", "limit=0", "tail=1&tail=2"],
)  # fmt: skip
def test_an_odd_parameter_is_422(live: Live, talkative: dict[str, Any], query: str) -> None:
    problem(live.http.get(f"{path_of(talkative)}?{query}"), 422, "validation_failed")
    problem(live.http.get(f"{path_of(talkative)}?sort=timestamp"), 422, "unknown_parameter")


def test_bytes_that_are_no_text_become_replacement_characters(live: Live) -> None:
    script = (
        "import sys\n"
        "sys.stdout.buffer.write(b'nul \\0 here\\nbad \\xff\\xfe utf\\ngood \\xc3\\xa9\\nhalf \\xe2\\x82')\n"
        "sys.stderr.buffer.write(b'\\x80')"
    )
    ended = live.run(script)
    assert ended["status"] == "completed"
    assert ended["stdout"].splitlines() == ["nul \ufffd here", "bad \ufffd\ufffd utf", "good é", "half \ufffd"]
    assert ended["stderr"].startswith("\ufffd")
    assert [row["message"] for row in lines(live, ended, stream="stdout")] == ended["stdout"].splitlines()


def test_a_very_long_line_is_split_and_complete(live: Live) -> None:
    ended = live.run("print('x' * 150_000 + 'é' * 10)")
    rows = lines(live, ended)
    assert len(rows) == 3
    assert all(len(row["message"].encode()) <= 65_536 for row in rows)
    assert "".join(row["message"] for row in rows) == "x" * 150_000 + "é" * 10


def test_lines_are_there_while_the_script_runs(live: Live) -> None:
    running = live.started("import time; print('early', flush=True); time.sleep(60)")
    assert running["status"] == "running"
    assert [row["message"] for row in lines(live, running)] == ["early"]
    live.stop(running["execution_id"])


def test_long_output_keeps_its_head_and_its_tail_and_says_what_was_cut(live: Live) -> None:
    script = "print('first ü')\nfor n in range(40_000): print(f'{n:06} é')\nprint('last')"
    ended = live.run(script)
    assert ended["output_truncated"] is True
    text = ended["stdout"]
    assert text.startswith("first ü\n000000 é\n")
    assert text.endswith("039999 é\nlast\n")
    assert 100 * 1024 - 16 <= len(text.encode()) <= 100 * 1024 + 200
    assert "\ufffd" not in text
    assert "left out" in text
    assert live.page(path_of(ended), limit=1)["pagination"]["total"] == 40_002
    short = live.run("for _ in range(100): print('x' * 1023)")
    assert (len(short["stdout"]), short["output_truncated"]) == (102_400, False)


def test_nothing_printed_is_empty_and_nothing_run_is_null(live: Live, idle: Live) -> None:
    silent = live.run("pass")
    assert (silent["stdout"], silent["stderr"], silent["output_truncated"]) == ("", "", False)
    queued = idle.submit("print(1)")
    assert (queued["stdout"], queued["stderr"]) == (None, None)
    assert idle.page(path_of(queued))["data"] == []
    assert idle.http.get(path_of(queued), params={"format": "text"}).text == ""


def test_output_without_end_is_cut_and_its_end_is_kept(live: Live) -> None:
    script = "import sys\nfor n in range(13): sys.stdout.write(f'{n:02}' + 'x' * 1_048_573 + '\\n')\nprint('the end')"
    ended = live.run(script)
    assert (ended["status"], ended["output_truncated"]) == ("completed", True)
    (last,) = lines(live, ended, stream="stdout", tail=1)
    assert last["message"] == "the end"
    cut = lines(live, ended, stream="stderr")
    assert len(cut) == 1
    assert "cut" in cut[0]["message"] or "dropped" in cut[0]["message"] or "left out" in cut[0]["message"]
    numbers = [row["sequence_number"] for row in lines(live, ended)]
    assert numbers == list(range(len(numbers)))
