"""Batches under a spending limit, and why their items wait."""

from api.one_service import Live, problem
from api.test_batches import PATH, SLEEPS, create, ended, rows

LIMIT = "/api/v1/cost/limit"


def test_a_batch_is_accepted_as_a_whole_or_refused_with_the_figures_of_all_its_items(live: Live) -> None:
    spent = live.http.get(LIMIT).json()
    free = spent["current_usage_micros"] + spent["reserved_micros"]
    assert live.http.put(LIMIT, json={"monthly_limit_micros": free + 667 * 3}).status_code == 200
    try:
        body = {"script_content": "print(1)", "items": [{}] * 4, "priority": 5, "retry_on": ["timeout"]}
        refused = problem(live.http.post(PATH, json=body), 402, "spending_limit_exceeded")
        assert refused["requested_micros"] == 667 * 4
        assert live.http.get(LIMIT).json()["reserved_micros"] == spent["reserved_micros"]
        made = create(live, "import sys; sys.exit(1)", [{}] * 3, priority=5, retry_on=["timeout"])
        ended(live, made["batch_id"])
        first = live.get(rows(live, made["batch_id"])[0]["execution_id"])
        assert (first["priority"], first["retry_on"]) == (5, ["timeout"])
        assert live.http.get(LIMIT).json()["reserved_micros"] == spent["reserved_micros"]
        assert live.http.put(LIMIT, json={"monthly_limit_micros": 1}).status_code == 200
        problem(live.http.post(f"{PATH}/{made['batch_id']}/retry"), 402, "spending_limit_exceeded")
        assert len(rows(live, made["batch_id"])) == 3
    finally:
        assert live.http.delete(LIMIT).status_code == 200


def test_an_item_says_that_its_batch_is_full(live: Live) -> None:
    made = create(live, SLEEPS, [{}, {}], max_parallel=1)
    first, second = (one["execution_id"] for one in made["executions"])
    live.until(first, lambda seen: bool(seen["stdout"]))
    assert live.get(second)["waiting"]["reason"] == "batch_limit"
    live.http.post(f"{PATH}/{made['batch_id']}/cancel")
    ended(live, made["batch_id"])
