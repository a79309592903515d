"""What holds for every test."""

from hypothesis import settings

# A busy machine is no failure: hypothesis' limit of 200 ms for an example says nothing about the code here.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
