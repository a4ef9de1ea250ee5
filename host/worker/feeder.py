"""Many prompts as one call: handed to the engine as places come free, each answered when it ends (SPEC.md §10).

A call may begin as many prompts as its guest has given credit for items: who does not read holds the work back, and
nothing piles up. Of all prompts of one priority at most ``MAX_AHEAD`` are with the engine without a token: enough to fill
the places that come free, too few to be in anybody's way. Guests take turns; a guest's calls are served in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from typing import Any

from mlxbridge.errors import BridgeError, DeadlineExceeded, LimitExceeded, LocalProtocolError, Overloaded
from mlxbridge.host.engine.interface import GUEST_SHARE, Engine, Origin, Row
from mlxbridge.host.waiting import WaitingRoom
from mlxbridge.host.worker.backlog import BYTES_A_TURN, CALLS_A_TURN, MAX_BYTES, RETRY_AFTER_S
from mlxbridge.host.worker.bundle import Answer, Bundle
from mlxbridge.protocol.host import HostConnection
from mlxbridge.types import Priority, Usage

MAX_AHEAD = 32
# Begun beside other calls in a turn: to encode so much text takes about 10 ms of a core, and their answers stand still meanwhile.
BYTES_BESIDE_CALLS = 32 * 1024
# Each is looked at between two steps.
MAX_BUNDLES = 512


class Feeder:
    """Owns the bundles that a worker has read, and the engine's calls for them, whose numbers are below 0."""

    def __init__(self, engine: Engine, connection: HostConnection, *, model: str) -> None:
        """Begin with none.

        Args:
            engine: what answers.
            connection: where items go, and whose credit is kept to.
            model: the model's name, for results.
        """
        self._engine = engine
        self._connection = connection
        self._model = model
        self._bundles: dict[int, Bundle] = {}
        # Those with requests that wait; the next guest's first.
        self._guests: dict[str, dict[Bundle, None]] = {}
        self._room = WaitingRoom()
        # By the engine's number.
        self._owners: dict[int, Bundle] = {}
        self._num_ahead: Counter[Priority] = Counter()
        self._numbers = count(-1, -1)

    def __len__(self) -> int:
        """Calls that have not ended."""
        return len(self._bundles)

    @property
    def num_waiting(self) -> int:
        """Requests that have not been begun."""
        return sum(bundle.num_waiting for bundle in self._bundles.values())

    @property
    def is_ready(self) -> bool:
        """Whether a prompt may be begun."""
        return self._next() is not None

    def add(self, call: int, params: Mapping[str, Any], origin: Origin) -> None:
        """Take a call on.

        Raises:
            InvalidArgument: what its requests have in common is wrong.
            Overloaded: there are too many, or they take too much memory, in all or of this guest's.
        """
        bundle, guest = Bundle(call, params, origin), origin.guest
        if not self._room.has_room(guest, bundle.num_bytes, max_bytes=MAX_BYTES, max_calls=MAX_BUNDLES):
            own = self._room.bytes_of(guest) / 2**20
            raise Overloaded(
                f"{len(self)} calls with many prompts ({self._room.num_bytes / 2**20:.1f} MiB) are open, "
                f"{self._room.calls_of(guest)} ({own:.1f} MiB) of them this guest's; there may be {MAX_BUNDLES} "
                f"({MAX_BYTES / 2**20:.0f} MiB), and of one guest {GUEST_SHARE} times what is free",
                retry_after=RETRY_AFTER_S,
            )
        self._room.enter(guest, bundle.num_bytes)
        self._bundles[call] = bundle
        if bundle.num_waiting:
            self._guests.setdefault(guest, {})[bundle] = None
        self._end_if_done(bundle)

    def feed(self, num_calls: int) -> None:
        """Begin a few prompts, fewer if they are large; more while no other call is open, since nobody waits for a step.

        Args:
            num_calls: those that were begun in this turn.
        """
        is_alone = self._connection.num_calls == len(self)
        num_bytes, most_bytes = 0, BYTES_A_TURN if is_alone else BYTES_BESIDE_CALLS
        refused: set[tuple[str, Priority]] = set()
        for _ in range(MAX_AHEAD if is_alone else CALLS_A_TURN - num_calls):
            if num_bytes >= most_bytes or (bundle := self._next(refused)) is None:
                return
            num_bytes += bundle.next_bytes
            if not self._begin(bundle):
                refused.add((bundle.origin.guest, bundle.priority))

    def take(self, rows: Iterable[Row]) -> list[Row]:
        """Gather what came of its prompts; the rows of other calls."""
        others = []
        for row in rows:
            if row.call >= 0:
                others.append(row)
            elif (bundle := self._owners.get(row.call)) is not None:
                self._gather(bundle, row)
        return others

    def curtail(self, call: int) -> None:
        """Begin no more of a call's prompts: it ends with those that have been. One that is not here has ended."""
        bundle = self._bundles.get(call)
        if bundle is not None and bundle.num_waiting:
            self._stop_waiting(bundle)
            bundle.curtail()
            self._end_if_done(bundle)

    def hold(self, call: int) -> bool:
        """Spend nothing on a call until it is to go on; whether it was here."""
        if (bundle := self._bundles.get(call)) is None:
            return False
        bundle.is_held = True
        for number in bundle.answers:
            self._engine.hold(number)
        return True

    def go_on(self, call: int) -> bool:
        """Let a call that is held go on; whether it was here."""
        if (bundle := self._bundles.get(call)) is None:
            return False
        bundle.is_held = False
        for number in bundle.answers:
            self._engine.go_on(number)
        return True

    def cancel(self, call: int) -> bool:
        """End a call, and what runs of it before the next step; whether it was here."""
        if (bundle := self._bundles.get(call)) is None:
            return False
        self._drop(bundle)
        self._connection.finish(call, {"finish_reason": "cancelled"})
        return True

    # -- beginning ---------------------------------------------------------------------------------------------

    def _next(self, refused: Collection[tuple[str, Priority]] = ()) -> Bundle | None:
        """The first bundle, of the first guest that has one, whose next prompt may be begun.

        Args:
            refused: guests, and of what priority the engine takes none of theirs now.
        """
        for guest, bundles in self._guests.items():
            for bundle in bundles:
                has_credit = bundle.num_begun < self._connection.items_granted(bundle.call)
                has_room = self._num_ahead[bundle.priority] < MAX_AHEAD
                is_free = has_credit and has_room and not bundle.is_held
                if is_free and (guest, bundle.priority) not in refused:
                    return bundle
        return None

    def _begin(self, bundle: Bundle) -> bool:
        """Hand a bundle's next prompt to the engine, or refuse it; False if the engine takes none of its guest's now."""
        number = next(self._numbers)
        try:
            self._engine.submit(number, bundle.parse_next(), bundle.origin)
        except Overloaded:
            return False
        except BridgeError as error:
            self._send(bundle, self._advance(bundle), error)
        else:
            bundle.answers[number] = self._advance(bundle)
            self._owners[number] = bundle
            self._num_ahead[bundle.priority] += 1
        return True

    def _advance(self, bundle: Bundle) -> Answer:
        """The next prompt waits no longer, and it is another guest's turn."""
        answer, guest = bundle.begin_next(), bundle.origin.guest
        own = self._guests.pop(guest)
        if not bundle.num_waiting:
            del own[bundle]
        if own:
            self._guests[guest] = own
        return answer

    # -- answering ---------------------------------------------------------------------------------------------

    def _gather(self, bundle: Bundle, row: Row) -> None:
        answer = bundle.answers[row.call]
        self._num_ahead[bundle.priority] -= not answer.has_begun
        end: Usage | BridgeError | None = row.error or row.usage
        try:
            answer.add(row)
        except LimitExceeded as error:
            self._engine.cancel(row.call)
            end = error
        if isinstance(end, DeadlineExceeded):  # it is that of all of them
            self._drop(bundle)
            self._connection.fail(bundle.call, end)
        elif end is not None:
            del bundle.answers[row.call], self._owners[row.call]
            self._send(bundle, answer, end)

    def _send(self, bundle: Bundle, answer: Answer, end: Usage | BridgeError) -> None:
        item = answer.item(end)
        try:
            self._connection.send_item(bundle.call, item)
        except LocalProtocolError as error:
            item = answer.item(LimitExceeded(error.message))
            self._connection.send_item(bundle.call, item)
        bundle.count(item)
        self._end_if_done(bundle)

    def _end_if_done(self, bundle: Bundle) -> None:
        if not self._connection.is_open(bundle.call):  # more items wait than the connection holds
            self._drop(bundle)
        elif bundle.is_done:
            self._drop(bundle)
            self._connection.finish(bundle.call, {"model": self._model, **bundle.result()})

    def _drop(self, bundle: Bundle) -> None:
        """Forget a bundle, and stop what runs of it."""
        guest = bundle.origin.guest
        del self._bundles[bundle.call]
        self._room.leave(guest, bundle.num_bytes)
        if bundle.num_waiting:
            self._stop_waiting(bundle)
        for number, answer in bundle.answers.items():
            del self._owners[number]
            self._num_ahead[bundle.priority] -= not answer.has_begun
            self._engine.cancel(number)

    def _stop_waiting(self, bundle: Bundle) -> None:
        guest = bundle.origin.guest
        own = self._guests[guest]
        del own[bundle]
        if not own:
            del self._guests[guest]
