"""One file per strategy, each with a SPEC and a rank function. No strategy knows another one."""
