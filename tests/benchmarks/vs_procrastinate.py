"""No-op jobs through procrastinate's queue: deferred in one call, then run by a worker. Prints jobs per second."""

import asyncio
import sys
import time

from procrastinate import App, PsycopgConnector

AT_ONCE = 64


async def main(dsn: str, jobs: int) -> float:
    app = App(connector=PsycopgConnector(conninfo=dsn))
    done = 0

    @app.task(name="noop")
    async def noop() -> None:
        nonlocal done
        done += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        began = time.monotonic()
        await noop.batch_defer_async(*[{} for _ in range(jobs)])
        await app.run_worker_async(concurrency=AT_ONCE, wait=False, listen_notify=False, install_signal_handlers=False)
        took_s = time.monotonic() - began
    assert done == jobs, done
    return jobs / took_s


if __name__ == "__main__":
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]))))
