"""A process sends its commands once, whatever is delivered again."""

import asyncio

from following import NOTICES, WAIT_S, Bank, Deposited, Notice, Noticed, bank, until

from rgrid.eventstore.handle import Handled, NewStream
from rgrid.kernel.ids import command_id
from rgrid.kernel.messages import AnyRecorded
from rgrid.subscriptions import dead_letters
from rgrid.subscriptions.daemon import SAVE_IDLE_EVERY_S
from rgrid.subscriptions.process import Process, Send


async def notify(recorded: AnyRecorded, send: Send) -> None:
    await send(NOTICES, "all", Notice(of=recorded.stream_id))
    await send(NOTICES, recorded.entity_id, Notice(of=recorded.stream_id))


NOTIFIER = Process("notifier", {Deposited: notify})


async def notices(service: Bank) -> list[AnyRecorded]:
    return [seen for seen in await service.store.read_log(0) if type(seen.event) is Noticed]


async def noticed(service: Bank, count: int) -> None:
    async def enough() -> bool:
        return len(await notices(service)) >= count

    await until(enough)


async def saved(service: Bank, position: int) -> None:
    async def there() -> bool:
        return (await service.pool.fetchval("select position from rgrid.checkpoints") or 0) >= position

    await until(there)


def test_commands_carry_their_cause_and_an_id_of_process_position_and_step(database: str) -> None:
    async def run() -> None:
        async with bank(database, processes=[NOTIFIER]) as service:
            position = await service.deposit("ann", 1)
            await noticed(service, 2)
            first, second = await notices(service)
            assert first.cause.command_id == command_id("notifier", position, 1)
            assert second.cause.command_id == command_id("notifier", position, 2)
            assert (first.cause.actor, first.cause.correlation_id) == ("system", "corr-1")
            assert first.cause.causation_id == f"event:{position}"

    asyncio.run(run())


def test_a_lost_checkpoint_repeats_no_command(database: str) -> None:
    """The decider would gladly notice twice: only the command's id prevents it."""

    async def run() -> None:
        async with bank(database, processes=[NOTIFIER]) as service:
            for count in range(20):
                await service.deposit("ann", 1, after=count)
            await noticed(service, 40)
            await saved(service, 60)
        async with bank(database, processes=[NOTIFIER], started=False) as service:
            await service.pool.execute("update rgrid.checkpoints set position = 3")
            await service.daemon.start()
            await service.deposit("bob", 1)
            await noticed(service, 42)
            await saved(service, 63)
            assert len(await notices(service)) == 42

    asyncio.run(run())


def test_where_a_process_stands_is_saved_when_it_stops(database: str) -> None:
    async def run() -> None:
        async with bank(database, processes=[NOTIFIER]) as service:
            await service.deposit("ann", 1)
            await noticed(service, 2)
            await service.daemon.reached(3, ["notifier"], WAIT_S)
        async with bank(database, processes=[NOTIFIER], started=False) as service:
            assert await service.pool.fetchval("select position from rgrid.checkpoints") == 3

    asyncio.run(run())


def test_a_process_steps_down_when_another_has_moved_its_checkpoint(database: str) -> None:
    async def run() -> None:
        async with bank(database, processes=[NOTIFIER]) as service:
            await service.deposit("ann", 1)
            await noticed(service, 2)
            await saved(service, 3)
            await service.pool.execute("update rgrid.checkpoints set position = 50")
            await service.deposit("bob", 1)
            await noticed(service, 4)
            await asyncio.sleep(2 * SAVE_IDLE_EVERY_S)  # its next save is refused
            await service.deposit("cid", 1)
            await asyncio.sleep(2 * SAVE_IDLE_EVERY_S)
            assert len(await notices(service)) == 4

    asyncio.run(run())


def test_a_reaction_that_fails_halfway_repeats_no_command(database: str) -> None:
    async def run() -> None:
        tries = 0
        answers: list[Handled[int, Noticed] | None] = []

        async def shaky(recorded: AnyRecorded, send: Send) -> None:
            nonlocal tries
            tries += 1
            answers.append(await send(NOTICES, "all", Notice(of=recorded.stream_id)))
            if tries < 3:
                raise ValueError("halfway")

        async with bank(database, processes=[Process("shaky", {Deposited: shaky})]) as service:
            await service.deposit("ann", 1)

            async def done() -> bool:
                return tries == 3

            await until(done)
            await saved(service, 2)
            assert len(await notices(service)) == 1
            assert answers[0] is not None
            assert answers[1:] == [None, None]
            assert await dead_letters.show(service.pool) == []

    asyncio.run(run())


def test_a_reaction_that_always_fails_is_parked(database: str) -> None:
    async def run() -> None:
        async def refuse(recorded: AnyRecorded, send: Send) -> None:
            if recorded.entity_id == "ann":
                raise ValueError("not ann")
            await notify(recorded, send)

        async with bank(database, processes=[Process("choosy", {Deposited: refuse})]) as service:
            position = await service.deposit("ann", 1)
            await service.deposit("bob", 1)
            await noticed(service, 2)
            assert [letter.position for letter in await dead_letters.show(service.pool, "choosy")] == [position]

    asyncio.run(run())


def test_streams_side_by_side_keep_their_own_order(database: str) -> None:
    async def run() -> None:
        order: dict[str, list[int]] = {}
        together = most = 0

        async def watch(recorded: AnyRecorded, send: Send) -> None:
            nonlocal together, most
            together += 1
            most = max(most, together)
            await asyncio.sleep(0.001)
            order.setdefault(recorded.entity_id, []).append(recorded.version)
            together -= 1

        async with bank(database) as before:
            for name in "abcdefgh":
                await before.deposit(name, *range(10))
        async with bank(database, processes=[Process("watch", {Deposited: watch}, streams_at_once=4)]) as service:
            await saved(service, 80)
        assert order == {name: list(range(1, 11)) for name in "abcdefgh"}
        assert most == 4

    asyncio.run(run())


def test_a_new_process_that_begins_at_the_head_leaves_the_past_alone(database: str) -> None:
    async def run() -> None:
        async with bank(database) as before:
            await before.deposit("ann", 1)
        late = Process("late", {Deposited: notify}, from_head=True)
        async with bank(database, processes=[late]) as service:
            await saved(service, 1)
            await service.deposit("bob", 1)
            await noticed(service, 2)
            assert {seen.event.of for seen in await notices(service)} == {"account-bob"}

    asyncio.run(run())


def test_a_command_begins_other_streams_along_with_its_own_once(database: str) -> None:
    async def run() -> None:
        tries = 0

        async def both(recorded: AnyRecorded, send: Send) -> None:
            nonlocal tries
            tries += 1
            beside = NewStream(NOTICES, "beside", Notice(of=recorded.stream_id))
            await send(NOTICES, "all", Notice(of=recorded.stream_id), along=lambda _state, _events: [beside])
            if tries < 2:
                raise ValueError("halfway")

        async with bank(database, processes=[Process("both", {Deposited: both})]) as service:
            await service.deposit("ann", 1)
            await saved(service, 3)
            first, second = await notices(service)
            assert (first.stream_id, second.stream_id) == ("notice-all", "notice-beside")
            assert first.cause.command_id == second.cause.command_id

    asyncio.run(run())
