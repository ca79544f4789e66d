"""`kstream savepoint ...` and the export and import of state: the list of commands (app.py), and one module for each.

What a savepoint is, and how one is made and restored, is in kstream/runtime/cluster and kstream/state.
"""
