"""What is made, checked and said in Kafka outside the data path: names, topics, offsets moved between groups,
announcements of instances, dead letters looked at and written back. No worker reads or writes a record here.
"""
