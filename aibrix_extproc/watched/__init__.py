"""Files that operators write and edit while we run: read with their lines, watched, the last good reading kept.

What stands in a file is an adapter's business (fleet, keys); adapters do not know one another, so this is below them.
"""
