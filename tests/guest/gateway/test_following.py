"""Work that tells how far it is, and whoever follows it."""

from __future__ import annotations

import asyncio

import pytest

from mlxbridge.guest.gateway.following import Following
from mlxbridge.types import Progress


async def test_who_reads_slowly_is_told_the_latest_and_what_came_of_it() -> None:
    async def work(tell: Progress) -> str:
        for number in range(5):
            tell({"bytes_done": number})
        await asyncio.sleep(0)
        tell({"bytes_done": 5})
        return "there"

    async with Following(work) as following:
        told = [one["bytes_done"] async for one in following]
        assert following.result() == "there"
    assert told == [4, 5]


async def test_end_that_comes_before_the_last_news_was_read_loses_none_of_it() -> None:
    async def work(tell: Progress) -> None:
        tell({"bytes_done": 9})
        raise ValueError("no more")

    async with Following(work) as following:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [one async for one in following] == [{"bytes_done": 9}]
        with pytest.raises(ValueError, match="no more"):
            following.result()


async def test_work_that_is_followed_no_more_ends() -> None:
    has_ended = asyncio.Event()

    async def work(tell: Progress) -> None:
        tell({})
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()

    async with Following(work) as following:
        assert await anext(following) == {}
    assert has_ended.is_set()
