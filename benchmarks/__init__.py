"""The benchmark of kstream: `python -m benchmarks` (or `make bench`) prints one table and writes RESULTS.md.

`data` fills the topics, `yardstick` is the hand-written loop that everything is compared with, `services` are the same
jobs as kstream apps, `child` runs one of them as `kstream run --workers 1` does and times it from inside, `cases` says
what is compared with what, `checks` reads the outputs back, `report` writes the table, `stages` and `micro` say where
the time goes.
"""
