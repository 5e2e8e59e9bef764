"""No-op workflows through a queue of DBOS without a limit: enqueued one by one, until the last result. Prints jobs per
second."""

import sys
import time

from dbos import DBOS

POLL_S = 0.05


def main(dsn: str, jobs: int) -> float:
    url = dsn.replace("postgresql://", "postgresql+psycopg://")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})

    @DBOS.workflow()
    def noop() -> None:
        return None

    DBOS.launch()
    DBOS.register_queue("noop", polling_interval_sec=POLL_S)
    began = time.monotonic()
    for handle in [DBOS.enqueue_workflow("noop", noop) for _ in range(jobs)]:
        handle.get_result(polling_interval_sec=POLL_S)
    took_s = time.monotonic() - began
    DBOS.destroy()
    return jobs / took_s


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
