"""What is made, checked and said in Kafka outside the data path: names, topics, offsets moved between groups,
announcements of instances. Nothing here touches a record of a user.
"""
