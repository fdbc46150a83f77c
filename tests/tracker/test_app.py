"""The end of a tracker worker."""

import asyncio

import pytest

from tracker.app import end


def test_a_task_that_does_not_hear_it_is_cancelled_until_it_does() -> None:
    async def stubborn(times: int) -> None:
        for _ in range(times):
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def story() -> list[bool]:
        tasks = [asyncio.create_task(stubborn(times)) for times in range(4)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await end(tasks, patience_seconds=0.01)
        return [task.cancelled() for task in tasks]

    assert asyncio.run(story()) == [True] * 4


def test_what_has_ended_already_or_ends_by_an_error_is_not_waited_for() -> None:
    async def fails() -> None:
        raise ValueError

    async def story() -> None:
        tasks = [asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(0))]
        await asyncio.sleep(0.01)
        await end(tasks)
        assert isinstance(tasks[0].exception(), ValueError)
        await end([])

    asyncio.run(story())
