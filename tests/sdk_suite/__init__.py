"""openai-python's own tests, asked of an engine directly and through the gateway (make test-sdk-suite)."""
