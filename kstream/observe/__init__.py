"""What an operator of a service sees: log lines; metrics and health come with issue 4."""
