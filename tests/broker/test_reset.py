"""`kstream reset` on a real Kafka."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from kstream.cli import main
from kstream.runtime.cluster.regroup import answer
from kstream.runtime.kafka import KafkaClients
from kstream.types import TopicPartition
from support.running import until

SERVICE = """
import kstream

app = kstream.App({name!r})
lines = app.topic("{name}.lines", key=str, value=str, partitions=2)
app.stream(lines).group_by(lambda line: line, key=str, name="by-line").count(name="seen")
"""


def test_a_stopped_app_is_made_to_begin_anew(
    bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"reset-{uuid.uuid4().hex[:8]}"
    module = name.replace("-", "_")
    (tmp_path / f"{module}.py").write_text(SERVICE.format(name=name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    on = ("--bootstrap-servers", bootstrap_servers)
    assert main(["topics", f"{module}:app", "--create", *on]) == 0
    admin = KafkaClients(bootstrap_servers).admin()
    at = [TopicPartition(f"{name}.lines", number) for number in range(2)]
    answer(lambda: admin.set_committed(name, {at[0]: (0, "")}), "the commit")
    capsys.readouterr()

    assert main(["reset", f"{module}:app", "--dry-run", *on]) == 0
    shown = capsys.readouterr().out
    internal = {f"{name}-by-line-repartition", f"{name}-seen-changelog"}
    for topic in internal:
        assert f"delete topic {topic}" in " ".join(shown.split())
    assert answer(lambda: admin.committed(name, at), "offsets") == {at[0]: (0, ""), at[1]: None}

    assert main(["reset", f"{module}:app", "--yes", *on]) == 0
    until(lambda: internal.isdisjoint(admin.topics(60)), "the topics to be gone")
    assert f"{name}.lines" in admin.topics(60)
    assert answer(lambda: admin.committed(name, at), "offsets") == dict.fromkeys(at)

    assert main(["reset", f"{module}:app", "--yes", "--to", "latest", *on]) == 0  # again: nothing is there any more
    assert answer(lambda: admin.committed(name, at), "offsets") == dict.fromkeys(at, (0, ""))
    assert main(["reset", f"{module}:app", "--yes", "--to", "noon", *on]) == 2
    assert "neither earliest nor latest" in capsys.readouterr().err
    admin.close()
