"""A bounded queue of byte strings that may live in a file, and then outlives its process."""
