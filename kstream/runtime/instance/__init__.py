"""An instance's workers: claimed under a name, started, restarted, scaled, stopped."""
