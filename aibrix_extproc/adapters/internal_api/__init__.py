"""A client of the metadata service's internal routes, by which our processes speak with each other."""
