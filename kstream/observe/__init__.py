"""What an operator of a service sees: log lines, metrics, traces, and what the status page and `/ready` say."""
