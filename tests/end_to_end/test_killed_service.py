"""kill -9 of the service at random points under load."""

import random
import time
from pathlib import Path

from end_to_end.conftest import Starter
from end_to_end.evidence import check_everything
from end_to_end.grid import left_in_scratch
from end_to_end.load import Load

from rgrid.executions.events import AttemptEnded

ROUNDS = 3
SEED = 20_240_607


def test_a_service_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing(
    start_service: Starter, folder: Path
) -> None:
    moments = random.Random(SEED)
    service = start_service(slots=4)
    load = Load(service)
    for _ in range(ROUNDS):
        load.begin()
        time.sleep(moments.uniform(0.3, 1.5))
        family = service.kill()
        load.end()
        family.must_be_gone(max_s=10)
        service.start()
    load.repeat_open()
    load.wake_sleepers()
    found = check_everything(service, wait_max_s=40)
    lost = [one for one in found.events if isinstance(one.event, AttemptEnded) and one.event.status == "lost"]
    assert lost, "no kill hit a running script, so nothing is proved"
    load.check(found, folder)
    assert not left_in_scratch(service.data)
