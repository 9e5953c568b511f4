"""A clock that is an hour ahead, in every Python process that has this folder on its path; the machine's is untouched.

Python imports a module of this name at its start. Waits go by the monotonic clock, which stays right.
"""

from __future__ import annotations

import datetime
import time

AHEAD = datetime.timedelta(hours=1)
_right_s = time.time


class WrongDatetime(datetime.datetime):
    """``datetime`` whose present is wrong."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> WrongDatetime:
        """An hour too late."""
        return super().now(tz) + AHEAD


time.time = lambda: _right_s() + AHEAD.total_seconds()
vars(datetime)["datetime"] = WrongDatetime
