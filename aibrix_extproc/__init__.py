"""Makes a fleet of vLLM engines behind Envoy look exactly like the OpenAI API."""

__version__ = "0.1.0"
