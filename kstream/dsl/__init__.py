"""What users declare: streams, groups, tables, agents. Builds topology nodes; nothing runs here.

The one exception is `Table`, which is declared here and read and written by user code inside a running task.
"""
