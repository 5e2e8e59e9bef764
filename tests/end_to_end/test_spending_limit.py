"""Two services on one database, one limit: what both accept at once never overshoots it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from end_to_end.conftest import Starter
from end_to_end.grid import Program, Service

from rgrid.client.grid import Client
from rgrid.client.problems import Refused

SHARED = {"encryption_key": "7a" * 32}
ROUNDS = 5


def create(client: Client) -> str | int:
    """The id, or the status of the refusal."""
    try:
        answer = client.document("POST", "/executions", body={"script_content": "print(1)"}, retry=False)
    except Refused as refused:
        return refused.status
    execution_id: str = answer["execution_id"]
    return execution_id


def test_of_two_creates_at_once_in_two_processes_one_is_accepted(
    start_service: Starter, stopping: list[Program], folder: Path
) -> None:
    first = start_service("first", slots=0, **SHARED)
    second = Service(folder, "second", data=first.data, slots=0, database_url=first.dsn, **SHARED)
    stopping.append(second)
    second.start()
    clients = [first.client(), second.client()]
    clients[0].set_cost_limit(1_000)
    with ThreadPoolExecutor(2) as threads:
        for _ in range(ROUNDS):
            answers = list(threads.map(create, clients))
            assert sorted(map(type, answers), key=str) == [int, str], f"667 + 667 > 1,000: {answers}"
            assert 402 in answers
            assert clients[1].cost_limit().reserved_micros == 667
            clients[1].cancel(next(one for one in answers if isinstance(one, str)))
            assert clients[0].cost_limit().reserved_micros == 0
