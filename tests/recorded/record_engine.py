"""Asks a running engine the steps of `engine_steps` and prints one JSON line for each answer.

python -m tests.recorded.record_engine http://127.0.0.1:8000 KEY ADAPTER-FOLDER > tests/recorded/engine_0.32.jsonl
"""

import http.client
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from tests.recorded.engine_steps import LORA, STEPS, Step


def asked(url: str, key: str, step: Step, lora: str) -> dict[str, Any]:
    """One answer: status, content type, body."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = None
    if step.body is not None:
        headers["content-type"] = "application/json"
        body = json.dumps(step.body).replace(LORA, lora)
    connection.request(step.method, step.path, body, headers)
    response = connection.getresponse()
    text = response.read().decode().replace(lora, LORA)
    connection.close()
    return {"step": step.name, "status": response.status, "type": response.getheader("content-type"), "body": text}


def main() -> None:
    url, key, lora = sys.argv[1:4]
    for step in STEPS:
        sys.stdout.write(json.dumps(asked(url, key, step, lora)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
