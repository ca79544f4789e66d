"""`kstream dlq`: dead letters listed, shown, replayed, purged.

app.py lists the commands, listing.py and handling.py are what they do, finding.py is what these share. What is done in
Kafka is in kstream/runtime/cluster (dead_letters.py, handled.py, replaying.py).
"""
