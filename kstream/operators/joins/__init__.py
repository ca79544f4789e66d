"""Joins, one a file: what a record of one side finds of the other, and what comes out."""
