"""JSON Schemas (2020-12) of our types, with what their docstrings say of them and of each field."""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import inspect as looked

REF = "#/components/schemas/{name}"

Schema = dict[str, Any]


def of(types: Sequence[object]) -> tuple[list[Schema], dict[str, Schema]]:
    """The schema of each type, and the components to which these refer by REF."""
    shown, components = msgspec.json.schema_components(types, ref_template=REF)
    for info in _structs(looked.multi_type_info(types)):
        _explain(info, components[info.cls.__name__])
    return list(shown), dict(components)


def _structs(types: Iterable[looked.Type]) -> Iterator[looked.StructType]:
    """Every struct among the types, and inside of them, once."""
    waiting, seen = list(types), set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, looked.StructType) and each.cls not in seen:
            seen.add(each.cls)
            yield each
            waiting += [field.type for field in each.fields]
        elif isinstance(each, looked.UnionType):
            waiting += each.types
        elif isinstance(each, looked.Metadata):
            waiting.append(each.type)
        elif isinstance(each, looked.CollectionType):
            waiting.append(each.item_type)
        elif isinstance(each, looked.DictType):
            waiting.append(each.value_type)


def _explain(info: looked.StructType, schema: Schema) -> None:
    """Put into a struct's schema what msgspec leaves out: what its fields mean, and that a time is one."""
    schema.pop("title", None)
    if "description" in schema:
        schema["description"] = " ".join(inspect.cleandoc(schema["description"]).split())
    meanings = _meanings(info.cls)
    for field in info.fields:
        shown = schema["properties"][field.encode_name]
        if isinstance(field.type, looked.DateTimeType):
            shown["format"] = "date-time"
        for choice in shown.get("anyOf", ()) if _may_be_time(field.type) else ():
            if choice["type"] == "string":
                choice["format"] = "date-time"
        if field.name in meanings:
            shown["description"] = meanings[field.name]


def _may_be_time(kind: looked.Type) -> bool:
    return isinstance(kind, looked.UnionType) and any(
        isinstance(each, looked.DateTimeType) for each in kind.types
    )


@functools.cache
def _meanings(cls: type) -> dict[str, str]:
    """The docstring under each field of a class; none where its source isn't at hand."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):
        return {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    return {
        field.target.id: " ".join(str(note.value.value).split())
        for field, note in itertools.pairwise(statements)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
    }
