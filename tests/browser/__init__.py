"""The SDKs' browser builds in a real headless Chromium (make test-browser)."""
