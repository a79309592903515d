"""One file per scorer, each with a SPEC and a class. No scorer knows another one."""
