"""What `kstream send`, `tail` and `table` share: topics of an app by name, text to keys and values and back, reading.

Nothing here starts an app or joins its consumer groups.
"""
