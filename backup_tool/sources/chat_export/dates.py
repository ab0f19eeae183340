"""What the numbers of an export's dates mean, decided by evidence; and when that was.

The order of day, month and year is that of the phone's language and region, and the text does not say it. In this order:

    file names     that hold a day, beside the date of their message
    the calendar   a date that is none (there is no month 13), or that lies in the future or before WhatsApp
    the sequence   messages stand in the order of time
    the dots       where dots stand between the numbers, no language puts the month first
    a sibling      another export of the same chat, written in the same way

Where none of it decides, what is likeliest is taken (the number that changes more often is rather the day), and called a guess.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

from backup_tool.sources.chat_export.grammar import Message, Style
from backup_tool.sources.filenames import Zone

DAY_FIRST, MONTH_FIRST, YEAR_FIRST = "day/month/year", "month/day/year", "year/month/day"
ORDERS = {DAY_FIRST: (2, 1, 0), MONTH_FIRST: (2, 0, 1), YEAR_FIRST: (0, 1, 2)}
"""Where year, month and day stand among the numbers."""
_BUDDHIST = 543
_OLDEST = date(2009, 1, 1).toordinal()
_MARGIN = 2
_FEWEST_CHANGES = 3
_SMALL_STEP_BACK = 300
"""Seconds: messages that cross on their way stand a little out of order."""

Numbers = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """How dates are read. `how` says what decided it, in a person's words."""

    order: str
    how: str
    sure: bool = True
    years_before: int = 0
    """Years that the calendar of the text is ahead of the common one."""
    other: str | None = None
    """Where not sure: the order that is just as possible."""

    def day(self, numbers: Numbers) -> int:
        """The day (proleptic ordinal) of a date; 0 where it is none."""
        return _day(numbers, self.order, self.years_before)

    def certain(self, numbers: Numbers) -> bool:
        """True where this date is beyond doubt, whatever order is right."""
        return self.sure or (self.other is not None and _day(numbers, self.other, self.years_before) in (0, self.day(numbers)))


@lru_cache(maxsize=4096)
def _day(numbers: Numbers, order: str, years_before: int) -> int:
    year, month, day = (numbers[at] for at in ORDERS[order])
    if year < 100:
        year += 2500 if years_before else 2000
    try:
        return date(year - years_before, month, day).toordinal()
    except ValueError:
        return 0


def decide(messages: Sequence[Message], style: Style, newest: float | None) -> Decision:
    """The order of an export's dates. `newest` is the time (seconds since 1970) of its newest file: no message is later than that."""
    last = date.today().toordinal() + 1
    if newest is not None and newest > 1_230_768_000:  # a file of before 2009 has no time that means anything
        last = min(last, date.fromtimestamp(min(newest, time.time())).toordinal() + 1)
    counted = Counter(one.numbers for one in messages)
    years_before = _calendar(counted, style, last)
    if style.year == "first":
        return Decision(YEAR_FIRST, "the year stands first", years_before=years_before)
    sequence = [one.numbers for one in messages]
    found = (
        _by_names(messages, style, years_before)
        or _by_calendar(counted, style, years_before, last)
        or _by_steps_back(sequence, style, years_before)
    )
    if found:
        return Decision(found[0], found[1], years_before=years_before)
    likely, other = _likeliest(sequence, style)
    guess = Decision(likely, "a guess: nothing in it decides", False, years_before, other)
    if style.date_by == "." and other != YEAR_FIRST:
        return replace(guess, how="dots stand between the numbers", sure=True, other=None)
    if all(map(guess.certain, counted)):
        return replace(guess, how="either order gives the same days", sure=True, other=None)
    return guess


def _likeliest(sequence: Sequence[Numbers], style: Style) -> tuple[str, str]:
    """The order to guess, and the one that is as possible: the number that changes more often is rather the day."""
    if style.date_by == ".":
        return DAY_FIRST, YEAR_FIRST if YEAR_FIRST in _orders(style) else MONTH_FIRST
    first, second = (sum(one[at] != other[at] for one, other in pairwise(sequence)) for at in (0, 1))
    if max(first, second) >= _FEWEST_CHANGES and max(first, second) > 2 * min(first, second):
        month_first = second > first
    else:
        month_first = style.halves and style.date_by == "/"
    return (MONTH_FIRST, DAY_FIRST) if month_first else (DAY_FIRST, MONTH_FIRST)


def borrowed(own: Decision, sibling: Decision) -> Decision:
    """A decision that another export of the same chat allows."""
    return replace(own, order=sibling.order, how="another export of this chat", sure=True, other=None)


def _orders(style: Style) -> list[str]:
    """What is possible without file names: a year of two digits stands first in Korean only ("24. 1. 15.")."""
    return [DAY_FIRST, MONTH_FIRST, *([YEAR_FIRST] if style.year == "short" and style.spaced else [])]


def _calendar(counted: Counter[Numbers], style: Style, last: int) -> int:
    """543 where years are counted as in Thailand, throughout."""
    if style.year != "short":
        at = 0 if style.year == "first" else 2
        return _BUDDHIST if all(2400 <= numbers[at] < 2700 for numbers in counted) else 0

    def possible(years_before: int) -> bool:
        return any(_OLDEST <= _day(numbers, order, years_before) <= last for numbers in counted for order in (DAY_FIRST, MONTH_FIRST))

    return _BUDDHIST if not possible(0) and possible(_BUDDHIST) else 0


def _only_best(scores: dict[str, int]) -> str | None:
    """The order that has more than every other; None where two have as much."""
    (best, most), (_, second), *_ = sorted(scores.items(), key=lambda pair: -pair[1])
    return best if most > second else None


def _by_names(messages: Sequence[Message], style: Style, years_before: int) -> tuple[str, str] | None:
    named = [(one.numbers, one.named_day) for one in messages if one.named_day]
    scores = {order: sum(abs(_day(numbers, order, years_before) - day) <= 1 for numbers, day in named) for order in ORDERS}
    best = _only_best(scores)
    if best is None and YEAR_FIRST not in _orders(style):
        best = _only_best({order: scores[order] for order in _orders(style)})
    return (best, "the days in file names") if best else None


def _by_calendar(counted: Counter[Numbers], style: Style, years_before: int, last: int) -> tuple[str, str] | None:
    def score(order: str, until: int) -> int:
        return sum(count for numbers, count in counted.items() if _OLDEST <= _day(numbers, order, years_before) <= until)

    best = _only_best({order: score(order, date.max.toordinal()) for order in _orders(style)})
    if best:
        return best, "dates that are impossible otherwise"
    best = _only_best({order: score(order, last) for order in _orders(style)})
    # A file's time may be wrong: it counts only where every date fits.
    return (best, "dates that would lie in the future") if best and score(best, last) == counted.total() else None


def _by_steps_back(sequence: Sequence[Numbers], style: Style, years_before: int) -> tuple[str, str] | None:
    """Messages stand in the order of time: fewer steps back by more than a day are right."""
    steps = {}
    for order in _orders(style):
        days = [_day(numbers, order, years_before) for numbers in sequence]
        steps[order] = sum(after < before - 1 for before, after in pairwise(days))
    (best, fewest), (_, second), *_ = sorted(steps.items(), key=lambda pair: pair[1])
    return (best, "the sequence of messages") if second - fewest >= _MARGIN else None


def seconds_of(message: Message, decision: Decision) -> int | None:
    """The moment on the phone's clock, in seconds since the first day; None where there is no such moment."""
    day = decision.day(message.numbers)
    hour = message.hour
    if message.half in ("am", "pm") and hour <= 12:
        hour = hour % 12 + (12 if message.half == "pm" else 0)
    if not day or hour > 23 or message.minute > 59 or (message.second or 0) > 59:
        return None
    return ((day * 24 + hour) * 60 + message.minute) * 60 + (message.second or 0)


def without_pasted(messages: list[Message], decision: Decision) -> list[Message]:
    """The messages without those that someone pasted into another: they lie days before what is around them. One that names a file of the
    export is its own, whatever its time.
    """
    times = [seconds_of(one, decision) for one in messages]
    chain = _longest_rise(times)
    kept, reached = [], 0
    for number, (one, moment) in enumerate(zip(messages, times, strict=True)):
        if number in chain:
            reached = moment or reached
        elif moment is not None and moment < reached - 86400 and not (one.mention and one.mention.what == "found"):
            continue
        kept.append(one)
    return kept


def _longest_rise(times: Sequence[int | None]) -> set[int]:
    """The positions of a longest sequence of times that never goes back: one clock that was wrong once must not push out all the others."""
    tails: list[int] = []
    at: list[int] = []
    before: dict[int, int] = {}
    for number, moment in enumerate(times):
        if moment is None:
            continue
        place = bisect_right(tails, moment)
        if place:
            before[number] = at[place - 1]
        tails[place : place + 1] = [moment]
        at[place : place + 1] = [number]
    chain: set[int] = set()
    number = at[-1] if at else -1
    while number >= 0:
        chain.add(number)
        number = before.get(number, -1)
    return chain


class Clock:
    """The phone's clock in a zone. Counts the times that it never showed (`skipped`), and those it showed twice where nothing around tells
    which one is meant (`unclear`); of each, an example is kept.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.skipped: list[str] = []
        self.unclear: list[str] = []

    def sent_at(self, number: int, times: Sequence[int | None]) -> str | None:
        """RFC 3339 in UTC of the message of that number among the times on the phone's clock; None where it has none."""
        moment = times[number]
        if moment is None:
            return None
        local = _local(moment)
        change = self._change(local)
        if change < 0:
            self.skipped.append(local.isoformat(" "))
        elif change > 0:
            second = self._second_time(number, times)
            if second is None:
                self.unclear.append(local.isoformat(" "))
            local = local.replace(fold=1 if second else 0)
        return self.zone.time_text(local)

    def _change(self, local: datetime) -> int:
        """Above 0 where the clock showed this time twice, below 0 where it never did (PEP 495)."""
        try:
            one, other = (self._offset(local.replace(fold=fold)) for fold in (0, 1))
        except (ValueError, OverflowError, OSError):
            return 0
        return (one > other) - (one < other)

    def _offset(self, local: datetime) -> timedelta:
        aware = local.astimezone() if self.zone.rules is None else local.replace(tzinfo=self.zone.rules)
        return aware.utcoffset() or timedelta()

    def _second_time(self, number: int, times: Sequence[int | None]) -> bool | None:
        """True where the clock had been set back before the message, False where that was after it; None where nothing shows it."""
        for at in range(number, 0, -1):
            step = self._step(times, at)
            if step is None or not self._twice(times[at - 1]):
                break
            if step < -_SMALL_STEP_BACK:
                return True
        for at in range(number + 1, len(times)):
            step = self._step(times, at)
            if step is None or not self._twice(times[at]):
                break
            if step < -_SMALL_STEP_BACK:
                return False
        return None

    def _step(self, times: Sequence[int | None], at: int) -> int | None:
        """Seconds from the message before to this one; None where one of them has no time."""
        before, after = times[at - 1], times[at]
        return None if before is None or after is None else after - before

    def _twice(self, moment: int | None) -> bool:
        return moment is not None and self._change(_local(moment)) > 0


def _local(seconds: int) -> datetime:
    return datetime.min + timedelta(seconds=seconds - 86400)
