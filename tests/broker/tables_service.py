"""Tables that are joined by a foreign key and as they were, for test_tables.py: `broker.tables_service:app`."""

from __future__ import annotations

import os
from datetime import timedelta

import kstream


def office_of(employee: str) -> str:
    return employee.split("|")[1]


def seated(employee: str, office: str | None) -> str:
    return f"{employee}-{office}"


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    employees = app.topic(f"{name}.employees", key=str, value=str | None, partitions=4)
    offices = app.topic(f"{name}.offices", key=str, value=str | None, partitions=2)
    orders = app.topic(f"{name}.orders", key=str, value=str, partitions=2)
    seats = app.topic(f"{name}.seats", key=str, value=str | None, partitions=4)
    priced = app.topic(f"{name}.priced", key=str, value=str, partitions=2)
    staff = app.stream(employees).to_table("employees")
    places = app.stream(offices).to_table("offices", history=timedelta(days=1))
    staff.join(places, seated, on=office_of, how="left", name="seats").to(seats)
    app.stream(orders).join(places, seated, how="left").to(priced)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "tables"))
