"""A small file that a process leaves for the next one."""
