"""The command `aibrix-extproc simulate`: an engine from the command line."""

import argparse
import json
import os
import sys
from pathlib import Path

from aibrix_extproc.simulator.options import VERSIONS, LoraModule, SimulatorOptions, Task

MOST_AMOUNT = 1e9  # of milliseconds, microseconds or seconds: anything above is a slip, infinity too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.formatter_class = argparse.HelpFormatter  # the texts below say what happens without an option
    defaults = SimulatorOptions()
    _add_model_arguments(parser, defaults)
    _add_latency_arguments(parser, defaults)
    _add_transfer_arguments(parser)
    _add_server_arguments(parser, defaults)


def options_from(args: argparse.Namespace) -> SimulatorOptions:
    """The options that the flags ask for."""
    return SimulatorOptions(
        host=args.host,
        port=args.port,
        models=tuple(args.model or SimulatorOptions().models),
        root=args.root,
        task=Task(args.task),
        max_model_len=args.max_model_len,
        api_keys=tuple(args.api_key or ()),
        loras=tuple(args.lora or ()),
        max_loras=args.max_loras,
        version=args.vllm_version,
        seed=args.seed,
        max_num_seqs=args.max_num_seqs,
        max_num_queued_reqs=args.max_num_queued_reqs,
        priority_scheduling=args.scheduling_policy == "priority",
        prefill_us_per_token=args.prefill_us_per_token,
        prefill_base_ms=args.prefill_base_ms,
        serial_prefill=args.serial_prefill,
        itl_ms=args.itl_ms,
        tokens_per_write=args.tokens_per_write,
        output_tokens=args.output_tokens,
        block_size=args.block_size,
        num_blocks=args.num_blocks,
        prefix_caching=not args.no_prefix_caching,
        kv_connector=args.kv_connector,
        kv_lease_seconds=args.kv_lease_seconds,
        kv_transfer_us_per_token=args.kv_transfer_us_per_token,
        embedding_dimensions=args.embedding_dimensions,
        responses_store=args.enable_responses_store,
        tool_call_parser=not args.no_tool_call_parser,
        auto_tool_choice=args.enable_auto_tool_choice,
        multimodal=args.multimodal,
        prompt_tokens_details=args.enable_prompt_tokens_details,
        request_id_headers=args.enable_request_id_headers,
        server_load_tracking=args.enable_server_load_tracking,
        lora_updating=not args.no_lora_updating,
        dev_mode=not args.no_dev_mode,
        weight_transfer=args.weight_transfer,
        profiler=args.profiler,
        tokenizer_info=args.enable_tokenizer_info_endpoint,
        admin=not args.no_admin,
        keep_alive_seconds=args.keep_alive,
        max_body_bytes=args.max_body_mib * 1024 * 1024,
        recorded_requests=args.record_requests,
        crash_exits=True,
    )


def with_options_file(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with those of --options-file; a usage error for a file that holds none."""
    if args.options_file is None:
        return args
    parser = argparse.ArgumentParser("aibrix-extproc simulate")
    add_arguments(parser)
    try:
        words = json.loads(args.options_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"--options-file {args.options_file}: {error}")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        parser.error(f"--options-file {args.options_file}: expected a list of texts")
    return parser.parse_args(words, args)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Only here: the parser must stay cheap for all the other commands.
    from aibrix_extproc.simulator.process import serve

    args = with_options_file(args)
    try:
        return serve(options_from(args))
    except OSError as error:
        # By its number, because the event loop adds words of its own; a failed name lookup has a negative one.
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or str(error)
        sys.stderr.write(f"aibrix-extproc simulate: cannot listen on {args.host}:{args.port}: {reason}\n")
        return 1


def _add_model_arguments(parser: argparse.ArgumentParser, defaults: SimulatorOptions) -> None:
    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        action="append",
        type=_name,
        metavar="NAME",
        help=f"served model name; repeat for aliases, the first is echoed (default: {defaults.base_model})",
    )
    add("--root", default="", metavar="PATH", help="what /v1/models shows as root (default: the first model name)")
    add(
        "--task",
        default=defaults.task.value,
        choices=[task.value for task in Task],
        help="what the model does; routes of other tasks are absent (default: %(default)s)",
    )
    add(
        "--max-model-len",
        type=_positive,
        default=defaults.max_model_len,
        metavar="TOKENS",
        help="context length (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="answers depend on it and on the request only (default: %(default)s)",
    )
    add(
        "--output-tokens",
        type=_count,
        default=defaults.output_tokens,
        metavar="N",
        help="length of an answer unless the request sets it (default: %(default)s)",
    )
    add("--lora", action="append", type=_lora, metavar="NAME=PATH", help="a LoRA adapter loaded from the start; repeat")
    add(
        "--max-loras",
        type=_positive,
        default=defaults.max_loras,
        metavar="N",
        help="adapters that can run at the same time (default: %(default)s)",
    )
    add("--no-lora-updating", action="store_true", help="no routes to load and unload adapters")
    add(
        "--embedding-dimensions",
        type=_positive,
        default=defaults.embedding_dimensions,
        metavar="N",
        help="length of an embedding (default: %(default)s)",
    )
    add("--no-tool-call-parser", action="store_true", help="refuse every tool choice but none, as a plain vLLM does")
    add("--enable-auto-tool-choice", action="store_true", help="accept tool_choice auto, else it is a 400 as in vLLM")
    add("--multimodal", action="store_true", help="accept images and audio in messages, else they are a 400")
    add("--enable-prompt-tokens-details", action="store_true", help="report cached_tokens in usage")
    add("--enable-responses-store", action="store_true", help="keep responses in memory, allow background ones")


def _add_latency_arguments(parser: argparse.ArgumentParser, defaults: SimulatorOptions) -> None:
    add = parser.add_argument_group("latency and capacity").add_argument
    add(
        "--prefill-us-per-token",
        type=_amount,
        default=0.0,
        metavar="US",
        help="microseconds for each prompt token not in the prefix cache (default: 0)",
    )
    add("--prefill-base-ms", type=_amount, default=0.0, metavar="MS", help="milliseconds for each prefill (default: 0)")
    add("--serial-prefill", action="store_true", help="compute prompts one after the other, else all at the same time")
    add("--itl-ms", type=_amount, default=0.0, metavar="MS", help="milliseconds between two tokens (default: 0)")
    add(
        "--tokens-per-write",
        type=_count,
        default=0,
        metavar="N",
        help="tokens in one socket write (default: 1, without inter-token time all)",
    )
    add(
        "--max-num-seqs",
        type=_positive,
        default=defaults.max_num_seqs,
        metavar="N",
        help="sequences that run at the same time, the others wait (default: %(default)s)",
    )
    add(
        "--scheduling-policy",
        choices=("fcfs", "priority"),
        default="fcfs",
        help="order of waiting requests: as they came, or lower priorities first (default: %(default)s)",
    )
    add(
        "--max-num-queued-reqs",
        type=_count,
        default=None,
        metavar="N",
        help="waiting requests above this are refused with 503 (default: no limit)",
    )
    add(
        "--block-size",
        type=_positive,
        default=defaults.block_size,
        metavar="TOKENS",
        help="tokens of one cache block (default: %(default)s)",
    )
    add(
        "--num-blocks",
        type=_positive,
        default=defaults.num_blocks,
        metavar="N",
        help="size of the KV cache in blocks (default: %(default)s)",
    )
    add("--no-prefix-caching", action="store_true", help="compute every prompt in full")


def _add_transfer_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("prefill/decode disaggregation").add_argument
    add(
        "--kv-connector",
        action="store_true",
        help="give the KV cache of prompts to other engines and take theirs, as with NixlConnector",
    )
    add(
        "--kv-lease-seconds",
        type=_amount,
        default=30.0,
        metavar="S",
        help="how long the blocks of a prompt wait to be read (default: %(default)g)",
    )
    add(
        "--kv-transfer-us-per-token",
        type=_amount,
        default=0.0,
        metavar="US",
        help="microseconds for each token that is taken over (default: 0)",
    )


def _add_server_arguments(parser: argparse.ArgumentParser, defaults: SimulatorOptions) -> None:
    add = parser.add_argument_group("server").add_argument
    add("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=8000, help="port to listen on, 0 for a free one (default: %(default)s)")
    add("--api-key", action="append", metavar="KEY", help="require this bearer key below /v1; repeat for several")
    add("--options-file", type=Path, metavar="FILE", default=None,
        help="more of these options, as a JSON list of texts; other users of the machine do not see them")  # fmt: skip
    add(
        "--keep-alive",
        type=_amount,
        default=defaults.keep_alive_seconds,
        metavar="SECONDS",
        help="idle connections are closed after this (default: %(default)s, as uvicorn)",
    )
    add("--max-body-mib", type=_positive, default=64, metavar="MIB", help="largest request body (default: %(default)s)")
    add("--enable-request-id-headers", action="store_true", help="echo X-Request-Id")
    add("--enable-server-load-tracking", action="store_true", help="count running requests in GET /load")
    add(
        "--vllm-version", choices=VERSIONS, default=defaults.version,
        help="version of vLLM whose behaviour is imitated (default: %(default)s)",
    )  # fmt: skip
    add("--weight-transfer", action="store_true", help="take updates of weights, else they are a 500")
    add("--profiler", action="store_true", help="have the routes that start and stop the profiler")
    add("--enable-tokenizer-info-endpoint", action="store_true", help="have the route /tokenizer_info")
    add("--no-dev-mode", action="store_true", help="no routes for sleep, pause and cache reset")
    add("--no-admin", action="store_true", help="no /sim routes, and x-sim headers mean nothing")
    add(
        "--record-requests",
        type=_count,
        default=defaults.recorded_requests,
        metavar="N",
        help="requests that GET /sim/requests remembers; 0 is faster (default: %(default)s)",
    )


def _lora(text: str) -> LoraModule:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, not {text!r}")
    return LoraModule(name, path)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more, not {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < MOST_AMOUNT:
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more, not {text!r}")
    return value


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    add_arguments(_parser)
    raise SystemExit(run(_parser.parse_args()))
