"""Delays of every flight that left New York in 2013: `app` is the service, `demo` runs it on real data.

`replay` feeds the service, `audit` computes what it must have put out by other means, `watch` follows what it commits
and `board` draws it.
"""
