"""Files that operators write and edit while we run: read with line numbers, followed, the last good reading kept.

What a file holds (a fleet, keys) is the business of its adapter. Adapters do not know one another, so this lies below.
"""
