"""When snapshots of tasks are taken (taking.py), how one is made (making.py), and how a task that has no state of its
own gets one (fetching.py). What a snapshot is, and how it travels, is in kstream/state/snapshots/.
"""
