"""`python -m charts`: writes the charts' generated files."""

from charts.write import write

write()
