"""The metadata service: durable objects of OpenAI's API that neither Envoy nor an engine can keep."""
