"""Nexmark: an auction house's stream of people, auctions and bids, and the benchmark's queries over it.

`model` has the three records, `generator` makes them, `queries` are the queries, each an app of its own (`app`), and
`oracle` the same in SQL, which says what they must come to. `feed` writes the records into topics.
"""
