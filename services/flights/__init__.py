"""Delays of every flight that left New York in 2013: `app` is the service, `demo` runs it on real data.

`replay` feeds the service and `audit` computes by other means what it must have put out. `performance` is one run,
which `watch` follows and `board` draws.
"""
