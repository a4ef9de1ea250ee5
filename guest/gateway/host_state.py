"""Whether the host can be asked, for the log: each change of that is worth a line, and not each request."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class HostState:
    """What was last seen of the host."""

    def __init__(self) -> None:
        self._why_not = ""

    def note_away(self, why: str, request_id: str) -> None:
        """A request found that it cannot be asked; where all was looked for it is told the first time.

        Args:
            why: its first line is what counts: what the others tell of each place differs by chance.
            request_id: of the request.
        """
        reason = why.partition("\n")[0]
        if reason != self._why_not:
            log.warning("the host cannot be asked: %s (%s)", why, request_id)
            self._why_not = reason

    def note_there(self) -> None:
        """It has answered."""
        if self._why_not:
            log.info("the host can be asked again")
            self._why_not = ""
