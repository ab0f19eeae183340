"""Google's own description of Drive v3, as the client library brings it, and what it says of requests and answers.

The document format is Google's "API Discovery Service": methods with parameters, scopes and schemas.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

NOT_IN_THE_DOCUMENT = {"upload_id"}
"""The session of a resumable upload: documented in Drive's upload guide only."""
READ_ONLY_ON_UPDATE = {"parents", "id"}


@dataclass(frozen=True)
class Method:
    """One method of the API. `media`: its media may be uploaded, `largest` bytes of it (0: not said)."""

    id: str
    http: str
    pattern: re.Pattern[str]
    parameters: Mapping[str, Mapping[str, Any]]
    scopes: frozenset[str]
    body: str | None
    answer: str | None
    media: bool
    largest: int = 0


@dataclass(frozen=True)
class Selection:
    """What a `fields` mask keeps: everything, or these names with what is kept below them."""

    everything: bool = False
    names: Mapping[str, Selection] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return self.everything or "*" in self.names or name in self.names

    def below(self, name: str) -> Selection:
        return ALL if self.everything else self.names.get(name) or self.names.get("*") or Selection()

    def applied(self, value: Any) -> Any:
        """The value with only what was selected."""
        if isinstance(value, list):
            return [self.applied(item) for item in value]
        if not isinstance(value, dict) or self.everything:
            return value
        return {name: self.below(name).applied(item) for name, item in value.items() if name in self}


ALL = Selection(everything=True)


class UnknownField(Exception):
    """A `fields` mask that Google refuses; the argument is what it complains of."""


class Discovery:
    """The document, with methods to find and values to check."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.schemas: Mapping[str, Mapping[str, Any]] = document["schemas"]
        self.globals: Mapping[str, Mapping[str, Any]] = document["parameters"]
        self.methods = [_method(entry) for entry in _entries(document["resources"])]
        self._selections: dict[tuple[str, str], Selection] = {}
        # files/trash and files/generateIds before files/{fileId}
        self.methods.sort(key=lambda method: method.pattern.groups)

    def method(self, http: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method of a path below /drive/v3/, and the values in the path."""
        for method in self.methods:
            if method.http == http and (found := method.pattern.fullmatch(path)):
                return method, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    def parameter_faults(self, method: Method, query: Sequence[tuple[str, str]]) -> Iterator[str]:
        """What is wrong with the query of a request."""
        names = [name for name, _ in query]
        for name, value in dict(query).items():
            known = method.parameters.get(name) or self.globals.get(name)
            if known is None:
                if name not in NOT_IN_THE_DOCUMENT:
                    yield f"{method.id}: unknown parameter {name}"
                continue
            if names.count(name) > 1 and not known.get("repeated"):
                yield f"{method.id}: parameter {name} is given twice"
            if fault := _text_fault(known, value):
                yield f"{method.id}: parameter {name} {fault}"
        for name, known in method.parameters.items():
            if known.get("required") and known["location"] == "query" and name not in names:
                yield f"{method.id}: parameter {name} is missing"

    def body_faults(self, method: Method, body: object) -> Iterator[str]:
        """What is wrong with the JSON body of a request."""
        if method.body is None:
            yield f"{method.id}: takes no body"
            return
        for fault in self.faults({"$ref": method.body}, body, "body"):
            yield f"{method.id}: {fault}"
        if isinstance(body, dict):
            for name in body:
                if not self.writable(method, name):
                    yield f"{method.id}: body.{name} is not writable"

    def writable(self, method: Method, name: str) -> bool:
        """Whether a request may name this field: output-only fields say so in their description."""
        assert method.body is not None
        known = self.schemas[method.body]["properties"].get(name, {})
        if method.id == "drive.files.update" and name in READ_ONLY_ON_UPDATE:
            return False
        return not known.get("readOnly") and "Output only." not in known.get("description", "")

    def answer_faults(self, method: Method, answer: object) -> Iterator[str]:
        """What is wrong with an answer: our own mistakes."""
        assert method.answer is not None
        for fault in self.faults({"$ref": method.answer}, answer, "answer"):
            yield f"{method.id}: {fault}"

    def faults(self, schema: Mapping[str, Any], value: object, where: str) -> Iterator[str]:
        """Where a value departs from a schema."""
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "object":
            if not isinstance(value, dict):
                yield f"{where} is no object"
                return
            known, other = schema.get("properties", {}), schema.get("additionalProperties")
            for name, item in value.items():
                if name not in known and other is None:
                    yield f"{where}.{name} is unknown"
                else:
                    yield from self.faults(known.get(name, other), item, f"{where}.{name}")
        elif kind == "array":
            if not isinstance(value, list):
                yield f"{where} is no array"
                return
            for item in value:
                yield from self.faults(schema["items"], item, f"{where}[]")
        elif fault := _value_fault(schema, kind, value):
            yield f"{where} {fault}"

    def selection(self, method: Method, mask: str) -> Selection:
        """Read a `fields` mask; raises UnknownField."""
        assert method.answer is not None
        if (method.id, mask) not in self._selections:
            self._selections[method.id, mask] = self._checked(_parsed(mask), {"$ref": method.answer})
        return self._selections[method.id, mask]

    def _checked(self, selection: Selection, schema: Mapping[str, Any]) -> Selection:
        while "$ref" in schema or schema.get("type") == "array":
            schema = self.schemas[schema["$ref"]] if "$ref" in schema else schema["items"]
        known = schema.get("properties", {})
        for name, below in selection.names.items():
            if name == "*":
                continue
            if name not in known and "additionalProperties" not in schema:
                raise UnknownField(name)
            self._checked(below, known.get(name, schema.get("additionalProperties")))
        return selection


def _entries(resources: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The methods of all resources, those of resources inside them too."""
    for resource in resources.values():
        yield from resource.get("methods", {}).values()
        yield from _entries(resource.get("resources", {}))


def _method(entry: Mapping[str, Any]) -> Method:
    path = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(entry["path"]))
    return Method(
        entry["id"],
        entry["httpMethod"],
        re.compile(path),
        entry.get("parameters", {}),
        frozenset(entry.get("scopes", ())),
        entry.get("request", {}).get("$ref"),
        entry.get("response", {}).get("$ref"),
        "mediaUpload" in entry,
        int(entry.get("mediaUpload", {}).get("maxSize", 0)),
    )


def _text_fault(known: Mapping[str, Any], value: str) -> str:
    """What is wrong with a parameter's text; Google quietly lowers numbers above `maximum` where the description says "coerced"."""
    kind = known["type"]
    if kind == "boolean" and value not in ("true", "false"):
        return f"is no boolean: {value!r}"
    if kind == "integer":
        if not re.fullmatch(r"-?\d+", value):
            return f"is no integer: {value!r}"
        if int(value) < int(known.get("minimum", value)):
            return f"is below {known['minimum']}"
        if int(value) > int(known.get("maximum", value)) and "coerced" not in known.get("description", ""):
            return f"is above {known['maximum']}"
    if "enum" in known and value not in known["enum"]:
        return f"is none of {known['enum']}"
    return ""


DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _value_fault(schema: Mapping[str, Any], kind: str, value: object) -> str:
    form = schema.get("format", "")
    if kind == "string":
        if not isinstance(value, str):
            return "is no string"
        if form in ("int64", "uint64") and not re.fullmatch(r"-?\d+", value):
            return "is no 64-bit number"
        if form == "date-time" and not DATE.fullmatch(value):
            return f"is no RFC 3339 time: {value!r}"
        if "enum" in schema and value not in schema["enum"]:
            return f"is none of {schema['enum']}"
    elif kind == "boolean" and not isinstance(value, bool):
        return "is no boolean"
    elif kind == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
        return "is no integer"
    elif kind == "number" and not isinstance(value, int | float):
        return "is no number"
    return ""


def _parsed(mask: str) -> Selection:
    """The grammar of `fields`: names separated by commas, `a/b` and `a(b,c)` for what lies below, `*` for all."""
    tokens = re.findall(r"[\w*]+|[(),/]|\S", mask)
    selection, rest = _names(tokens)
    if rest or not selection.names:
        raise UnknownField(mask)
    return selection


def _names(tokens: list[str]) -> tuple[Selection, list[str]]:
    found: dict[str, Selection] = {}
    while True:
        name, below, tokens = _one(tokens)
        found[name] = _merged(found[name], below) if name in found else below
        if not tokens or tokens[0] != ",":
            return Selection(names=found), tokens
        tokens = tokens[1:]


def _one(tokens: list[str]) -> tuple[str, Selection, list[str]]:
    if not tokens or not re.fullmatch(r"[\w*]+", tokens[0]):
        raise UnknownField("".join(tokens))
    name, tokens = tokens[0], tokens[1:]
    if tokens[:1] == ["/"]:
        inner, below, tokens = _one(tokens[1:])
        return name, Selection(names={inner: below}), tokens
    if tokens[:1] == ["("]:
        below, tokens = _names(tokens[1:])
        if tokens[:1] != [")"]:
            raise UnknownField(name)
        return name, below, tokens[1:]
    return name, ALL, tokens


def _merged(first: Selection, second: Selection) -> Selection:
    if first.everything or second.everything:
        return ALL
    return Selection(names={**first.names, **second.names})


def drive_v3() -> Discovery:
    """The document of Drive that the installed client library has."""
    return _document("drive.v3")


def gmail_v1() -> Discovery:
    """That of Gmail."""
    return _document("gmail.v1")


@functools.cache
def _document(name: str) -> Discovery:
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "discovery_cache/documents" / f"{name}.json"
    return Discovery(json.loads(file.read_bytes()))
