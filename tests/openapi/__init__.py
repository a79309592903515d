"""The OpenAPI document as others use it: a generated client, and generated requests against the real thing."""
