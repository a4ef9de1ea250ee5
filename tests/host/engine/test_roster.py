"""The roster with real calls, and lanes that are a list of sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import pytest
from mlx_lm.tokenizer_utils import load as load_tokenizer

from mlxbridge.errors import DeadlineExceeded, Overloaded
from mlxbridge.host.engine.admission import Admission, Joining, LaneSize
from mlxbridge.host.engine.caches.footprint import Footprint
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.queue import DRAWN_WEIGHT, TURN, Queue
from mlxbridge.host.engine.roster import Roster
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.stops import StopMatcher
from mlxbridge.types import Priority
from tests.host.engine.tiny import byte_level_tokenizer, save_tokenizer

# Buffers grow by 256 places, of one byte each here: a call takes so many pages, begun ones whole.
PAGE = 256
EXPECTED_TOKENS = 16


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(byte_level_tokenizer(), folder)
    return Vocabulary(load_tokenizer(folder))


@dataclass
class Decoding:
    """A lane for each job that is decoded, or one for all of them."""

    is_shared: bool = False
    jobs: list[Job] = field(default_factory=list)

    def preview(self, joining: Iterable[Joining]) -> list[LaneSize]:
        rows = [(len(job.context) + len(job.answer), job.num_left) for job in self.jobs]
        sizes = [LaneSize(1, *row) for row in (*rows, *(row[:2] for row in joining))]
        if self.is_shared and sizes:
            return [
                LaneSize(len(sizes), max(size.end for size in sizes), max(size.num_left for size in sizes))
            ]
        return sizes

    def compact(self) -> None:
        self.jobs = [job for job in self.jobs if not job.ended]


class Driver:
    """Asks a roster with so many pages of memory what the engine would ask it."""

    def __init__(self, vocabulary: Vocabulary, *, pages: int, is_shared: bool = False) -> None:
        self.vocabulary = vocabulary
        admission = Admission(Footprint(token_bytes=1), pages * PAGE, expected_tokens=EXPECTED_TOKENS)
        self.roster = Roster(Queue("tiny", max_waiting=8), admission)
        self.lanes = Decoding(is_shared)
        self.limit = 4

    def add(
        self,
        number: int,
        *,
        num_prompt: int = 10,
        max_tokens: int = 10,
        deadline_at: float = inf,
        guest: str = "",
        priority: Priority = "normal",
    ) -> Call:
        call = Call(
            number,
            job=Job(prompt=[5] * num_prompt, max_tokens=max_tokens),
            eos_ids=frozenset(),
            vocabulary=self.vocabulary,
            stops=StopMatcher(()),
            deadline_at=deadline_at,
        )
        self.roster.add(call, guest=guest, priority=priority, limit=self.limit, now=0)
        return call

    def check_room(self, guest: str, *, priority: Priority = "normal") -> None:
        self.roster.check_room(guest, priority=priority, limit=self.limit, now=0)

    def preempt(self) -> int:
        """How many that were."""
        before = self.roster.stats()["preemptions_total"]
        self.roster.preempt(self.lanes)
        return self.roster.stats()["preemptions_total"] - before

    def admit(self) -> list[int]:
        """The numbers of those that begin."""
        numbers = []
        while (job := self.roster.admit(self.lanes, limit=self.limit)) is not None:
            numbers.append(self.roster.call_of(job).number)
        return numbers

    def join(self, *calls: Call) -> None:
        for call in calls:
            self.roster.join(call.job)
            self.lanes.jobs.append(call.job)

    def draw(self, call: Call, num_tokens: int) -> None:
        for _ in range(num_tokens):
            call.job.num_drawn += 1
            self.roster.charge(call.job, 1)
            call.feed([6], None)

    def waiting(self) -> int:
        return self.roster.stats()["waiting"]

    def pages(self) -> int:
        """Projected."""
        num_pages, rest = divmod(self.roster.projected_bytes(self.lanes), PAGE)
        assert not rest
        return num_pages


@pytest.fixture
def ample(vocabulary: Vocabulary) -> Driver:
    return Driver(vocabulary, pages=100)


def test_call_is_open_from_add_to_close(ample: Driver) -> None:
    roster = ample.roster
    assert len(roster) == 0 and 1 not in roster and roster.get(1) is None
    call = ample.add(1)
    assert len(roster) == 1 and 1 in roster and roster.get(1) is call
    assert not roster.is_running(call.job) and roster.num_running == 0
    assert ample.admit() == [1]
    assert roster.is_running(call.job) and roster.running() == [call] and 1 in roster
    assert roster.close(1, now=0) is call
    assert len(roster) == 0 and 1 not in roster and not roster.is_running(call.job)
    assert roster.close(1, now=0) is None


@pytest.mark.parametrize("stage", ["waiting", "reading", "decoding", "waiting again"])
def test_close_leaves_nothing_whatever_the_call_did(ample: Driver, stage: str) -> None:
    call = ample.add(1)
    if stage != "waiting":
        ample.admit()
    if stage == "decoding":
        ample.join(call)
    if stage == "waiting again":
        ample.roster.wait_again(call)
    call.cancel()
    ample.roster.close(1, now=0)
    ample.lanes.compact()
    assert len(ample.roster) == ample.roster.num_running == ample.waiting() == ample.pages() == 0
    ample.add(1)
    assert ample.admit() == [1], "its number is free, and so is its place"


def test_admits_up_to_the_limit_in_the_order_of_the_queue(ample: Driver) -> None:
    ample.limit = 2
    for number, priority in enumerate[Priority](("low", "normal", "high"), 1):
        ample.add(number, priority=priority)
    assert ample.roster.stats() == {
        "running": 0,
        "held": 0,
        "waiting": 3,
        "waiting_high": 1,
        "waiting_normal": 1,
        "waiting_low": 1,
        "preemptions_total": 0,
    }
    assert ample.admit() == [3, 2]
    assert ample.admit() == []
    ample.roster.close(3, now=0)
    assert ample.admit() == [1]
    assert [call.number for call in ample.roster.running()] == [2, 1]


def test_admits_what_fits_with_its_expected_tokens(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=3)
    driver.add(1, num_prompt=PAGE - EXPECTED_TOKENS, max_tokens=1000)  # over the edge of a page
    driver.add(2, num_prompt=PAGE - EXPECTED_TOKENS - 1, max_tokens=1000)  # just within one
    driver.add(3, num_prompt=1)
    assert driver.admit() == [1, 2]
    assert driver.pages() == 3
    driver.roster.close(2, now=0)
    assert driver.admit() == [3]


def test_first_call_runs_whatever_is_projected(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=1)
    driver.add(1, num_prompt=PAGE - 1, max_tokens=1000)
    driver.add(2)
    assert driver.admit() == [1]
    assert driver.pages() == 2


def test_row_that_would_pad_others_counts_with_the_padding(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=5, is_shared=True)
    short = [driver.add(number) for number in (1, 2)]
    assert driver.admit() == [1, 2]
    driver.join(*short)
    assert driver.pages() == 2
    driver.add(3, num_prompt=PAGE)  # two pages for each of three
    assert driver.admit() == []
    driver.roster.close(3, now=0)
    driver.add(4)
    assert driver.admit() == [4]


def test_prompts_that_are_read_side_by_side_pad_each_other(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=5, is_shared=True)
    long = driver.add(1, num_prompt=2 * PAGE)
    driver.add(2, priority="low")  # a page by itself, but three once it has joined
    assert driver.admit() == [1]
    assert driver.pages() == 3
    driver.join(long)
    assert driver.pages() == 3
    assert driver.admit() == []
    driver.roster.close(1, now=0)
    driver.lanes.jobs.clear()
    assert driver.admit() == [2]


def test_call_whose_turn_it_is_gets_on_though_longer_ones_keep_coming(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=5, is_shared=True)
    low = driver.add(0, priority="low", guest="low", max_tokens=3)
    driver.add(1, num_prompt=2 * PAGE)
    for number in range(2, 4 * TURN):
        driver.add(number, num_prompt=2 * PAGE)  # there is always one that waits
        driver.admit()
        driver.join(*(call for call in driver.roster.running() if call.job not in driver.lanes.jobs))
        assert driver.preempt() == 0
        for call in driver.roster.running():
            driver.draw(call, 1)
            if call is not low or call.job.ended:
                call.job.ended = True
                driver.roster.close(call.number, now=0)
        driver.lanes.compact()
        if 0 not in driver.roster:
            break
    assert len(low.job.answer) == 3 and number < 2 * TURN


def test_places_without_memory_are_no_room(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=1)
    for number in range(1, 9):
        driver.add(number, guest=str(number))
    assert driver.admit() == [1]
    driver.add(9, guest="9")
    with pytest.raises(Overloaded, match="8 calls wait, and 8 may \\("):
        driver.check_room("10")
    with pytest.raises(Overloaded):
        driver.add(10, guest="10")
    assert 10 not in driver.roster and len(driver.roster) == 9


def test_places_are_room_again_once_there_is_memory(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=2)
    driver.limit = 2
    driver.add(1, num_prompt=PAGE)
    for number in (2, 3, 4):
        driver.add(number, guest=str(number))
    assert driver.admit() == [1]
    driver.roster.close(1, now=0)
    assert driver.admit() == [2, 3]
    driver.roster.close(2, now=0)
    for number in range(5, 13):
        driver.add(number, guest=str(number))
    with pytest.raises(Overloaded, match="9 calls wait, and 8 may beside 1 that can begin"):
        driver.check_room("13")


def test_free_places_are_room_beside_those_that_may_wait(ample: Driver) -> None:
    for number in range(12):  # eight may wait, four can begin
        ample.check_room(str(number))
        ample.add(number, guest=str(number))
    with pytest.raises(Overloaded, match="8 may beside 4 that can begin"):
        ample.check_room("12")
    assert len(ample.admit()) == 4
    with pytest.raises(Overloaded, match="8 may \\("):
        ample.check_room("12")


def test_prompt_counts_with_its_lane_once_it_has_been_read(ample: Driver) -> None:
    call = ample.add(1, num_prompt=2 * PAGE)
    assert ample.pages() == 0
    ample.admit()
    assert ample.pages() == 3
    ample.join(call)
    assert ample.pages() == 3
    ample.lanes.jobs.clear()
    assert ample.pages() == 0


def test_preempts_nobody_while_the_next_tokens_have_room(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=3)
    calls = [driver.add(number) for number in (1, 2)]
    driver.admit()
    driver.join(*calls)
    driver.lanes.jobs.append(Job(prompt=[5], max_tokens=1, ended=True))
    assert driver.preempt() == 0
    assert driver.roster.num_running == 2
    assert len(driver.lanes.jobs) == 3, "nothing is copied for memory that is not needed"


def test_preempts_the_newest_of_the_lowest_priority_first(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=4)
    priorities: tuple[Priority, ...] = ("normal", "low", "high", "normal")
    calls = [
        driver.add(number, num_prompt=PAGE - 20, max_tokens=100, priority=priority)
        for number, priority in enumerate(priorities, 1)
    ]
    assert len(driver.admit()) == 4
    driver.join(*calls)
    for call in calls:
        driver.draw(call, 20)
    before = [call.job for call in calls]
    assert driver.preempt() == 2
    assert {call.number for call in driver.roster.running()} == {1, 3}
    assert [driver.roster.is_running(job) for job in before] == [True, False, True, False]
    assert [job.ended for job in before] == [False, True, False, True]
    assert driver.lanes.jobs == [before[0], before[2]], "memory is given back at once"
    assert len(calls[3].job.context) == PAGE and calls[3].job.num_left == 80
    assert driver.admit() == [], "there is still no memory"
    driver.lanes.jobs.remove(before[0])
    driver.roster.close(1, now=0)
    assert driver.admit() == [4]


def test_the_last_that_runs_is_not_preempted(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=1)
    call = driver.add(1, num_prompt=PAGE, max_tokens=100)
    driver.admit()
    driver.join(call)
    assert driver.preempt() == 0
    assert driver.roster.is_running(call.job)


def test_preempts_nobody_where_giving_back_is_enough(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=2)
    calls = [driver.add(number) for number in (1, 2)]
    driver.admit()
    driver.join(*calls)
    driver.lanes.jobs.append(Job(prompt=[5], max_tokens=1, ended=True))
    assert driver.pages() == 3
    assert driver.preempt() == 0
    assert driver.pages() == 2


def test_preemption_leaves_no_room_for_others(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=2)
    calls = [driver.add(number, num_prompt=PAGE - 20, max_tokens=100) for number in (1, 2)]
    driver.admit()
    driver.join(*calls)
    for call in calls:
        driver.draw(call, 20)
    for number in range(3, 10):
        driver.add(number, guest=str(number))
    driver.check_room("10")
    assert driver.preempt() == 1
    with pytest.raises(Overloaded, match="8 calls wait, and 8 may \\("):
        driver.check_room("10")


def test_waiting_calls_take_the_places_of_low_ones_the_newest_first(ample: Driver) -> None:
    low = [ample.add(number, priority="low", max_tokens=100) for number in range(4)]
    assert ample.admit() == [0, 1, 2, 3]
    ample.join(*low)
    ample.draw(low[3], 5)
    ample.add(4)
    ample.add(5, priority="high")
    before = low[3].job
    assert ample.admit() == [5, 4]
    assert [call.number for call in ample.roster.running()] == [0, 1, 5, 4]
    assert ample.roster.stats()["preemptions_total"] == 2
    assert before.ended and low[3].job.context == [5] * 10 + [6] * 5, "its text goes on later"
    assert ample.admit() == [], "low ones do not take places from each other"
    ample.roster.close(4, now=0)
    assert ample.admit() == [2]


def test_no_other_call_gives_its_place_up(ample: Driver) -> None:
    ample.limit = 2
    ample.add(1)
    ample.add(2, priority="high")
    assert ample.admit() == [2, 1]
    ample.add(3, priority="high")
    assert ample.admit() == []


def test_low_call_keeps_a_place_that_was_its_due(ample: Driver) -> None:
    ample.limit = 1
    ample.add(1, priority="low", guest="low")
    for number in range(2, 11):
        ample.add(number, guest=str(number))
    order = ample.admit()
    while order[-1] != 1:
        ample.roster.close(order[-1], now=0)
        order += ample.admit()
    assert len(order) == TURN and ample.waiting() == 2
    assert ample.admit() == [], "or it would never come to an end"


def test_waiting_call_takes_the_memory_of_low_ones(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=4)
    low = [driver.add(number, priority="low") for number in range(4)]
    assert driver.admit() == [0, 1, 2, 3]
    driver.join(*low)
    driver.limit = 5
    driver.add(4, num_prompt=PAGE)
    assert driver.admit() == [4]
    assert [call.number for call in driver.roster.running()] == [0, 1, 4]
    assert driver.pages() == 4


def test_waiting_call_takes_no_place_where_giving_back_is_enough(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=2)
    low = driver.add(0, priority="low")
    driver.admit()
    driver.join(low)
    driver.lanes.jobs.append(Job(prompt=[5], max_tokens=1, ended=True))
    driver.add(1)
    assert driver.admit() == [1]
    assert driver.roster.num_running == 2


def test_places_of_low_calls_are_room_for_others(vocabulary: Vocabulary) -> None:
    driver = Driver(vocabulary, pages=100)
    for number in range(12):
        driver.add(number, guest=str(number), priority="low")
    assert len(driver.admit()) == 4
    with pytest.raises(Overloaded, match="8 calls wait, and 8 may \\("):
        driver.check_room("12", priority="low")
    for number in range(12, 24):
        driver.add(number, guest=str(number))
    with pytest.raises(Overloaded, match="12 calls wait, and 8 may beside 4 that can begin"):
        driver.check_room("24")
    assert len(driver.admit()) == 4
    with pytest.raises(Overloaded, match="8 calls wait, and 8 may \\("):
        driver.check_room("24")
    driver.check_room("24", priority="high")


def test_call_that_waits_again_comes_before_later_ones_of_its_guest(ample: Driver) -> None:
    ample.limit = 1
    first = ample.add(1)
    ample.admit()
    ample.add(2)
    before = first.job
    ample.roster.wait_again(first)
    assert before.ended and not ample.roster.is_running(before) and ample.waiting() == 2
    assert first.job is not before and 1 in ample.roster
    assert ample.admit() == [1]


def test_call_that_begins_again_keeps_its_place(ample: Driver) -> None:
    call = ample.add(1)
    ample.admit()
    ample.roster.join(call.job)
    ample.draw(call, 1)
    before = call.job
    ample.roster.begin_again(call)
    assert before.ended and not ample.roster.is_running(before)
    assert ample.roster.call_of(call.job) is call and call.job.context == [5] * 10 + [6]
    assert ample.roster.num_running == 1 and ample.waiting() == 0
    assert ample.pages() == 0, "its prompt is not read again"


def test_drawn_tokens_are_charged_to_the_guest(ample: Driver) -> None:
    ample.limit = 1
    call = ample.add(1, guest="draws", num_prompt=1, max_tokens=100)
    ample.admit()
    ample.add(2, guest="draws", num_prompt=1)
    ample.draw(call, 50)
    ample.add(3, guest="reads", num_prompt=50 * DRAWN_WEIGHT)
    ample.add(4, guest="reads", num_prompt=1)
    order = [1]
    while len(ample.roster):
        ample.roster.close(order[-1], now=0)
        order += ample.admit()
    assert order == [1, 3, 4, 2]


def test_deadlines_end_calls_wherever_they_are(ample: Driver) -> None:
    ample.limit = 1
    running = ample.add(1, deadline_at=10)
    ample.add(2, deadline_at=5)
    ample.add(3, deadline_at=50)
    ample.add(4)
    ample.admit()
    ample.join(running)
    ample.draw(running, 2)
    assert ample.roster.expire(4.9) == []
    (row,) = ample.roster.expire(5)
    assert row.call == 2 and isinstance(row.error, DeadlineExceeded)
    assert "before it was begun" in row.error.message
    ample.roster.close(2, now=5)
    (row,) = ample.roster.expire(20)
    assert row.call == 1 and row.error is not None and "after 2 tokens" in row.error.message
    ample.roster.close(1, now=20)
    assert ample.roster.expire(49) == []
    assert [row.call for row in ample.roster.expire(51)] == [3]
    ample.roster.close(3, now=51)
    assert ample.roster.expire(1e9) == [] and 4 in ample.roster


def test_deadline_that_comes_after_a_later_one_is_met(ample: Driver) -> None:
    ample.add(1, deadline_at=50)
    assert ample.roster.expire(10) == []
    ample.add(2, deadline_at=20)
    assert [row.call for row in ample.roster.expire(20)] == [2]


def test_deadline_of_a_closed_call_is_forgotten(ample: Driver) -> None:
    ample.add(1, deadline_at=5)
    ample.add(2, deadline_at=50)
    ample.roster.close(1, now=0)
    assert ample.roster.expire(10) == []
    assert [row.call for row in ample.roster.expire(60)] == [2]
