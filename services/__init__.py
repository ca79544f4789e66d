"""Services written with kstream; each folder is one. See README.md."""
