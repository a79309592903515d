"""I/O, one package per outside thing; no adapter knows another one."""
