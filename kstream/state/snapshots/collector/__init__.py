"""What nobody needs any more of the snapshots of a task, and its deletion: one file for each kind of garbage. Each is a
function of what lies there and what time it is (view.py), so a dry run says exactly what would be deleted.

Nothing is deleted that a kept manifest names or that an upload under way has noted. Savepoints lie elsewhere and own
their files. Manifests are deleted before their files: a process that dies in between leaves files that no manifest
names, which are found the next time.
"""

from __future__ import annotations

from kstream.state.snapshots.collector.collect import collect as collect
from kstream.state.snapshots.collector.view import Garbage as Garbage
