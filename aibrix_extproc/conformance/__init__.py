"""The verification tool: asks any base URL what the acceptance cases of the public interface ask, from outside.

It must not know the product: it imports nothing of this package but its version, so that it judges every deployment
alike. Nothing here needs the OpenAI SDK until a case runs; `sdk.py` alone imports it.
"""
