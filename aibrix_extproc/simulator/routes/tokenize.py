"""POST /tokenize and /detokenize: by these a gateway can measure a prompt."""

from aibrix_extproc.simulator.prompts import render_chat, render_prompt
from aibrix_extproc.simulator.reading import read_body, validation_error
from aibrix_extproc.simulator.requests import DetokenizeBody, TokenizeBody
from aibrix_extproc.simulator.tokenizer import decode, decode_one, encode
from aibrix_extproc.simulator.wire import Answer, Call, json_reply


async def tokenize(call: Call) -> Answer:
    """The tokens of a prompt or of a conversation."""
    body = read_body(call, TokenizeBody)
    model = call.engine.models.resolve(body.model)
    options = call.engine.options
    if body.messages is not None:
        data = render_chat(body.messages, body.tools, options.multimodal, model.name)
    elif body.prompt is not None:
        data = render_prompt(body.prompt)
    else:
        errors = [
            {
                "type": "missing",
                "loc": ("body", name),
                "msg": "Field required",
                "input": body.model_dump(exclude_unset=True),
            }
            for name in ("prompt", "messages")
        ]
        raise validation_error(errors)
    tokens = encode(data)
    strings = [decode_one(token).decode("utf-8", "replace") for token in tokens] if body.return_token_strs else None
    return json_reply(
        {"count": len(tokens), "max_model_len": options.max_model_len, "tokens": tokens, "token_strs": strings}
    )


async def detokenize(call: Call) -> Answer:
    """The text of tokens."""
    body = read_body(call, DetokenizeBody)
    call.engine.models.resolve(body.model)
    return json_reply({"prompt": decode(body.tokens)})
