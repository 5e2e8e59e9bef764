"""Which names of schedules are taken? Inline: two creations at the same time must not both get one."""

from importlib.resources import files
from typing import Final

from rgrid.kernel.messages import AnyRecorded
from rgrid.postgres.pool import Connection
from rgrid.schedules.events import ScheduleCreated, ScheduleDeleted
from rgrid.subscriptions.projection import Projection

TAKEN: Final = "schedule_names_taken"
"""The constraint that refuses a name that is in use."""


async def created(connection: Connection, event: ScheduleCreated, at: AnyRecorded) -> None:
    await connection.execute(
        "insert into schedule_names (schedule_id, name) values ($1, $2)", at.entity_id, event.name
    )  # fmt: skip


async def deleted(connection: Connection, _event: ScheduleDeleted, at: AnyRecorded) -> None:
    await connection.execute("delete from schedule_names where schedule_id = $1", at.entity_id)


PROJECTION: Final = Projection(
    name="schedule_names",
    version=1,
    on={ScheduleCreated: created, ScheduleDeleted: deleted},
    ddl=files("projections") / "schedule_names.sql",
    inline=True,
)
