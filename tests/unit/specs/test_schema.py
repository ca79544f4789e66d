"""Equal codecs are one type, and messages call them by their class."""

from __future__ import annotations

from typing import Optional, Union

import kstream
from kstream.specs.schema import schema, type_name


class Scaled:
    def __init__(self, by: int = 10) -> None:
        self.by = by

    def encode(self, value: int) -> bytes:
        return b"%d" % (value * self.by)

    def decode(self, data: bytes) -> int:
        return int(data) // self.by


class Slotted(Scaled):
    __slots__ = ("extra",)


def test_two_objects_of_one_codec_class_are_one_schema_where_their_attributes_are_equal() -> None:
    for cls in (Scaled, Slotted):
        one = schema(cls(), "value")
        assert schema(cls(), "value") is one and one.accepts(schema(cls(10), "value"))
        assert not one.accepts(schema(cls(100), "value"))
    assert not schema(Scaled(), "value").accepts(schema(Slotted(), "value"))
    assert schema(Scaled(), "key", key=True) is not schema(Scaled(), "value")


def test_they_fit_in_a_topology_which_shows_the_class() -> None:
    app = kstream.App("x")
    source = app.topic("in", key=Scaled(), value=Scaled())
    app.stream(source).to(app.topic("out", key=Scaled(), value=Scaled()))
    assert "key=Scaled value=Scaled" in app.topology().describe()
    assert "0x" not in f"{source} {app.topology().describe()}"


def test_unions_are_called_by_their_members() -> None:
    found = [Optional[str], Union[int, str], Slotted | None, list[int] | None]  # noqa: UP007, UP045
    assert [type_name(kind) for kind in found] == ["str | None", "int | str", "Slotted | None", "list[int] | None"]
