"""Acceptance 7.8: the models that a client can list, retrieve and use are the same."""

import openai


def test_mod_01_listing_models_gives_only_openai_fields(client: openai.OpenAI) -> None:
    page = client.models.list()
    assert {card.id for card in page.data} == {"chat-m", "org/chat-s", "chat-s", "lora-1", "emb-m", "asr-m"}
