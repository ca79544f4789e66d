"""`kstream state`: what the stores of an app hold, in a running instance (asked over HTTP) or in the state directory of
one that is stopped."""
