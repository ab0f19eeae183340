"""The language of `q` in files.list, as Google's "Search query terms and operators" defines it, and what is known of its habits.

Names are compared without regard to case. `name contains` finds beginnings only, and none longer than 26 characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

LONGEST_PREFIX = 26
TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^'\\]|\\['\\])*')|(?P<word>[A-Za-z]+)|(?P<sign><=|>=|!=|[=<>(){}]))")


class BadQuery(Exception):
    """A query that Google refuses."""


@dataclass(frozen=True)
class Term:
    """One comparison: `name = 'x'`. For `has` the value is (key, value)."""

    field: str
    operator: str
    value: str | bool | tuple[str, str]


@dataclass(frozen=True)
class Not:
    inner: Query


@dataclass(frozen=True)
class Several:
    """Queries joined by `and` (all) or `or` (any)."""

    all: bool
    inner: tuple[Query, ...]


Query = Term | Not | Several
TEXT = {"name": ("contains", "=", "!="), "mimeType": ("contains", "=", "!=")}
TIMES = ("modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime")
FLAGS = ("trashed", "starred", "sharedWithMe")
PEOPLE = ("parents", "owners", "writers", "readers")
PROPERTIES = ("appProperties", "properties")
INDEXED = ("name", "appProperties", "properties")
"""Terms that a search index answers: new files may be missing there for a while."""


def parse(text: str) -> Query:
    """Read a query; raises BadQuery."""
    reader = _Reader(text)
    query = reader.either()
    if reader.tokens:
        raise BadQuery(f"what is {reader.tokens[0]}?")
    return query


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if found is None:
                raise BadQuery(f"not understood from {text[at : at + 20]!r}")
            self.tokens.append(found[0].strip())
            at = found.end()

    def take(self, *wanted: str) -> str:
        if not self.tokens or (wanted and self.tokens[0] not in wanted):
            raise BadQuery(f"{' or '.join(wanted) or 'something'} is missing")
        return self.tokens.pop(0)

    def next_is(self, word: str) -> bool:
        return bool(self.tokens) and self.tokens[0] == word

    def either(self) -> Query:
        return self.joined("or", self.both)

    def both(self) -> Query:
        return self.joined("and", self.one)

    def joined(self, word: str, read: Callable[[], Query]) -> Query:
        parts = [read()]
        while self.next_is(word):
            self.take(word)
            parts.append(read())
        return parts[0] if len(parts) == 1 else Several(word == "and", tuple(parts))

    def one(self) -> Query:
        if self.next_is("not"):
            self.take("not")
            return Not(self.one())
        if self.next_is("("):
            self.take("(")
            inner = self.either()
            self.take(")")
            return inner
        return self.term()

    def term(self) -> Term:
        first = self.take()
        if first.startswith("'"):
            self.take("in")
            return Term(self.take(*PEOPLE), "in", _text(first))
        if first in TEXT:
            return Term(first, self.take(*TEXT[first]), self.text())
        if first in TIMES:
            operator, value = self.take("<=", "<", "=", "!=", ">", ">="), self.text()
            moment(value)
            return Term(first, operator, value)
        if first in FLAGS:
            return Term(first, self.take("=", "!="), self.take("true", "false") == "true")
        if first in PROPERTIES:
            return Term(first, self.take("has"), self.pair())
        raise BadQuery(f"no such term: {first}")

    def pair(self) -> tuple[str, str]:
        self.take("{")
        self.take("key")
        self.take("=")
        key = self.text()
        self.take("and")
        self.take("value")
        self.take("=")
        value = self.text()
        self.take("}")
        return key, value

    def text(self) -> str:
        if not self.tokens or not self.tokens[0].startswith("'"):
            raise BadQuery("a quoted value is missing")
        return _text(self.take())


def _text(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def moment(text: str) -> datetime:
    """An RFC 3339 time; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"no time: {text}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def terms(query: Query) -> Iterator[Term]:
    """All comparisons of a query."""
    if isinstance(query, Term):
        yield query
    else:
        for inner in [query.inner] if isinstance(query, Not) else query.inner:
            yield from terms(inner)


def required_parents(query: Query) -> set[str] | None:
    """The folders one of which every hit lies in; None where the query does not say."""
    if isinstance(query, Term):
        return {str(query.value)} if query.field == "parents" else None
    if isinstance(query, Not):
        return None
    found = [required_parents(inner) for inner in query.inner]
    if query.all:
        return next((parents for parents in found if parents is not None), None)
    return set().union(*(parents or () for parents in found)) if all(parents is not None for parents in found) else None


def matches(query: Query, value: Callable[[Term], object]) -> bool:
    """Whether a file is a hit. `value` gives what the file has for a term: text, time, flag, or a collection for `in` and `has`."""
    if isinstance(query, Not):
        return not matches(query.inner, value)
    if isinstance(query, Several):
        return (all if query.all else any)(matches(inner, value) for inner in query.inner)
    return _compared(query, value(query))


def _compared(term: Term, found: object) -> bool:
    if term.operator in ("in", "has"):
        assert isinstance(found, set | frozenset | list)
        return term.value in found
    if isinstance(found, datetime):
        wanted = moment(str(term.value))
        return {
            "<": found < wanted, "<=": found <= wanted, "=": found == wanted,
            "!=": found != wanted, ">": found > wanted, ">=": found >= wanted,
        }[term.operator]  # fmt: skip
    if found is None or isinstance(term.value, bool):
        return (found == term.value) == (term.operator == "=")
    have, wanted_text = str(found).casefold(), str(term.value).casefold()
    if term.operator == "contains":
        return have.startswith(wanted_text) and (term.field != "name" or len(wanted_text) <= LONGEST_PREFIX)
    return (have == wanted_text) == (term.operator == "=")
