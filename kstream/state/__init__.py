"""What operators remember: stores (an overlay of uncommitted changes over committed data) and their backends."""
