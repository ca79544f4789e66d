"""One partition of one sub-topology: what it reads next, its context, its failures, its counts and states. A task never
commits, and knows neither consumer nor producer.
"""
