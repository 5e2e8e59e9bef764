"""A process that archives logs and kills itself at a chosen moment: `python archiving_process.py DSN FOLDER MOMENT`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rgrid.assembly import assembled
from rgrid.eventstore.handle import Handler
from rgrid.kernel.clock import now
from rgrid.retention import Retention
from rgrid.settings import Settings


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Handler):
    """Dies before or after the event is in the log."""

    moment = ""

    async def handle(self, *args: Any, **more: Any) -> Any:
        if self.moment == "blocks stored":
            die()
        await super().handle(*args, **more)
        die()


async def main(dsn: str, folder: str, moment: str) -> None:
    async with assembled(Settings(data_dir=Path(folder), encryption_key="00" * 32), dsn, projecting=False) as parts:
        grid = parts.grid
        handler = Dying(grid.store, grid.handler._writer, now)
        handler.moment = moment

        async def reached_head() -> None:
            return

        chores = Retention(
            pool=grid.pool,
            handler=handler,
            settings=grid.settings,
            object_store=grid.objects,
            log_reader=grid.log_reader,
            reached_head=reached_head,
        )
        await chores.archive_logs()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
