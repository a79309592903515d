"""Rows of the tables of operations and of errors, grouped by subject; `operation_rows` and `errors` join them."""
