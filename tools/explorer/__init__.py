"""Puts Swagger UI into the package, from its own npm package."""
