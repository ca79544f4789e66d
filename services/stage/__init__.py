"""What the demos of services share: what they run on, how they are played, and how that is drawn."""
