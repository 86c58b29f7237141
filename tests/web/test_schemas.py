from datetime import datetime
from typing import Annotated

import msgspec

from cotexd.web import schemas


class Inner(msgspec.Struct):
    at: datetime | None
    """when it was,
    in UTC"""


class Outer(msgspec.Struct, rename={"after": "from"}):
    """What is
    outside.
    """

    inner: list[Inner]
    """what it holds"""
    after: int
    """where it goes on"""
    plain: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    times: dict[str, Inner] = {}


def test_a_schema_says_what_the_docstrings_say():
    (shown,), components = schemas.of([Outer])
    assert shown == {"$ref": "#/components/schemas/Outer"}
    assert components["Outer"]["description"] == "What is outside."
    properties = components["Outer"]["properties"]
    assert properties["inner"]["description"] == "what it holds"
    assert properties["from"] == {"type": "integer", "description": "where it goes on"}
    assert properties["plain"] == {"type": "string"}


def test_a_time_is_one_wherever_it_stands():
    _, components = schemas.of([Outer])
    assert components["Outer"]["properties"]["at"] == {"type": "string", "format": "date-time"}
    choices = components["Inner"]["properties"]["at"]["anyOf"]
    assert {"type": "string", "format": "date-time"} in choices
    assert components["Inner"]["properties"]["at"]["description"] == "when it was, in UTC"


def test_a_type_without_a_source_has_its_schema_all_the_same():
    made = msgspec.defstruct("Made", [("seq", int)])
    _, components = schemas.of([made])
    assert components["Made"]["properties"] == {"seq": {"type": "integer"}}
