"""Sinks that come with kstream, each with an extra of its own: examples of how one writes one's own. Nothing else
imports them."""
