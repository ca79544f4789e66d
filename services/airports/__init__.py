"""Airports from which aircraft keep leaving late: `app` reads the alerts of services/flights."""
