"""`python -m tools.measure.models FOLDER`, run by the Python of an installed vLLM: makes tiny models.

Their weights are random. Their chat templates write down whatever reaches them: a field that changes a prompt changes
its length.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

WORDS: Final = ["hello world this is a test of the tokenizer assistant user system tool function name content"] * 10
TEMPLATE: Final = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% if documents %}{{ documents | tojson }}\n{% endif %}"
    "{% if reasoning_effort %}{{ reasoning_effort }}\n{% endif %}{% if colour %}{{ colour }}\n{% endif %}"
    "{% for m in messages %}<s>{{ m | tojson }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
PICTURES: Final = (
    "{% for m in messages %}<s>{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<image>{% endif %}{% endfor %}"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
LENGTH: Final = 4096
LLAMA: Final[dict[str, Any]] = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": LENGTH,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip


def _bytes_bpe(size: int, special: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(WORDS, trainer)
    return made


def _tokenizer(template: str, *more: str) -> PreTrainedTokenizerFast:
    special = ["<s>", "</s>", "<pad>", "<unk>", *more]
    made = PreTrainedTokenizerFast(
        tokenizer_object=_bytes_bpe(512, special), bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>",
    )  # fmt: skip
    made.chat_template = template
    return made


def text(folder: Path, labels: int = 0) -> None:
    """A Llama of two layers; with labels a classifier."""
    _tokenizer(TEMPLATE).save_pretrained(folder)
    kind = "LlamaForSequenceClassification" if labels else "LlamaForCausalLM"
    names = {number: f"L{number}" for number in range(labels)}
    more = {"num_labels": labels, "id2label": names} if labels else {}
    LlamaConfig(vocab_size=512, architectures=[kind], torch_dtype="bfloat16", **LLAMA, **more).save_pretrained(folder)


def vision(folder: Path) -> None:
    """A Llava that sees pictures of 56 pixels as 16 tokens."""
    tokenizer = _tokenizer(PICTURES, "<image>")
    picture = tokenizer.convert_tokens_to_ids("<image>")
    pixels = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    LlavaProcessor(
        pixels, tokenizer, patch_size=14, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=PICTURES,
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)
    eyes = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=56,
        patch_size=14, projection_dim=64,
    )  # fmt: skip
    LlavaConfig(
        vision_config=eyes, text_config=LlamaConfig(vocab_size=576, **LLAMA), image_token_index=picture,
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=16,
        architectures=["LlavaForConditionalGeneration"], torch_dtype="bfloat16",
    ).save_pretrained(folder)  # fmt: skip


def speech(folder: Path) -> None:
    """A Whisper of two layers."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.loads(_bytes_bpe(400, ["<|endoftext|>"]).to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(plain["vocab"]))
    pairs = (" ".join(pair) if isinstance(pair, list) else pair for pair in plain["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    marks = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    times = [f"{number * 0.02:.2f}" for number in range(1501)]
    names = ["startoftranscript", *LANGUAGES, *marks, *times]
    tokenizer.add_tokens([f"<|{name}|>" for name in names], special_tokens=True)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    WhisperConfig(
        vocab_size=(len(tokenizer) + 63) // 64 * 64, num_mel_bins=80, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, d_model=64, encoder_ffn_dim=128, decoder_ffn_dim=128,
        bos_token_id=end, eos_token_id=end, pad_token_id=end, suppress_tokens=None, begin_suppress_tokens=None,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"), torch_dtype="float32",
        architectures=["WhisperForConditionalGeneration"],
    ).save_pretrained(folder)  # fmt: skip


def main() -> int:
    """Make what is not there yet."""
    folder = Path(sys.argv[1])
    makers = {
        "text": text,
        "classes": lambda where: text(where, 3),
        "pairs": lambda where: text(where, 1),
        "speech": speech,
        "vision": vision,
    }
    for name, make in makers.items():
        if not (folder / name / "config.json").exists():
            make(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
