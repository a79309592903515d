"""Uses a generated client in the environment of its generator: `python client_cases.py FOLDER ORIGIN KEY`."""

import sys
from importlib import import_module
from typing import Any


def main(folder: str, origin: str, key: str) -> None:
    """Ask operations of each kind; an AssertionError says what is wrong."""
    sys.path.insert(0, folder)
    generated: Any = import_module("generated")
    client = generated.AuthenticatedClient(base_url=origin, token=key)

    def ask(operation: str, **arguments: Any) -> Any:
        module = import_module(f"generated.api.{operation}")
        answer = module.sync_detailed(client=client, **arguments)
        return answer.status_code, answer.parsed

    def model(name: str, value: dict[str, Any]) -> Any:
        return getattr(import_module("generated.models"), name).from_dict(value)

    hello = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 5}
    status, chat = ask("generation.chat_completion", body=model("OpenaiChatCompletionRequest", hello))
    assert status == 200, status
    assert chat.choices[0].message.content, chat
    assert chat.usage.completion_tokens == 5, chat

    status, error = ask(
        "generation.chat_completion", body=model("OpenaiChatCompletionRequest", {**hello, "model": "nope"})
    )
    assert (status, error.error.code) == (404, "model_not_found"), error

    words = model("OpenaiEmbeddingRequest", {"model": "vec", "input": ["a", "b"]})
    status, vectors = ask("vectors.embedding", body=words)
    assert status == 200, status
    assert [one.index for one in vectors.data] == [0, 1], vectors

    status, models = ask("models.list_models")
    assert {card.id for card in models.data} == {"chat", "vec", "rank", "cls", "asr"}, models
    status, interfaces = ask("interfaces.list_interfaces")
    assert (status, interfaces.object_) == (200, "list"), interfaces
    status, batches = ask("batches.list_batches")
    assert (status, batches.data) == (200, []), batches


if __name__ == "__main__":
    main(*sys.argv[1:])
