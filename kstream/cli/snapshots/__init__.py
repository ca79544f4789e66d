"""`kstream snapshots`: what snapshots an app has, whether they are whole, and the deletion of those that nobody needs.
They are looked at where they lie; neither Kafka nor a running instance is asked."""
