"""Options to a plan, and what is refused before anything starts."""

import argparse
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aibrix_extproc.app.local.errors import LocalError
from aibrix_extproc.app.local.plan import Plan, make_plan
from aibrix_extproc.app.local.run import add_arguments


def parsed(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--port", "0", *options])


def plan(tmp_path: Path, *options: str) -> Plan:
    return make_plan(parsed(*options), tmp_path / "run")


def refusal(tmp_path: Path, *options: str) -> tuple[int, str]:
    with pytest.raises(LocalError) as caught:
        plan(tmp_path, *options)
    return caught.value.exit_code, str(caught.value)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_without_options_two_engines_serve_one_model(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert [engine.model for engine in made.simulated] == ["sim-chat", "sim-chat"]
    assert len(made.workers) == 1
    assert made.client_key is None


def test_every_model_gets_its_number_of_engines(tmp_path: Path) -> None:
    made = plan(tmp_path, "--model", "a", "--model", "b", "--model", "a", "--engines", "3")
    assert [engine.model for engine in made.simulated] == ["a"] * 3 + ["b"] * 3


def test_no_two_parts_share_a_port(tmp_path: Path) -> None:
    made = plan(tmp_path, "--engines", "5", "--workers", "4")
    ports = [made.listen.port, made.envoy_admin.port]
    ports += [engine.port for engine in made.simulated]
    ports += [port for worker in made.workers for port in (worker.port, worker.admin_port)]
    assert len(set(ports)) == len(ports) == 15
    assert 0 not in ports


def test_fleet_file_lists_simulated_engines(tmp_path: Path) -> None:
    made = plan(tmp_path)
    written = yaml.safe_load(made.fleet.read_text())
    assert [one["address"] for one in written["endpoints"]] == [engine.address for engine in made.simulated]


def test_fleet_file_with_engine_keys_is_for_its_owner_only(tmp_path: Path) -> None:
    made = plan(tmp_path, "--engine", "http://127.0.0.1:8000", "--engine", "vllm-2:8000", "--engine-api-key", "sk-e")
    written = yaml.safe_load(made.fleet.read_text())
    assert written["endpoints"] == [
        {"address": "127.0.0.1:8000", "api_key": "sk-e"},
        {"address": "vllm-2:8000", "api_key": "sk-e"},
    ]
    assert stat.S_IMODE(made.fleet.stat().st_mode) == 0o600
    assert made.simulated == ()


def test_given_fleet_file_is_used_where_it_lies(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("endpoints: []")
    assert plan(tmp_path, "--fleet", str(fleet)).fleet == fleet


def test_fleet_file_of_the_settings_is_used_unless_options_name_engines(tmp_path: Path) -> None:
    fleet, config = tmp_path / "fleet.yaml", tmp_path / "settings.yaml"
    fleet.write_text("endpoints: []")
    config.write_text(f"fleet: {{file: {fleet}}}")
    assert plan(tmp_path, "--config", str(config)).fleet == fleet
    assert plan(tmp_path, "--config", str(config), "--model", "m").simulated


def test_settings_reach_envoy_and_the_screen(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("access: {api_keys: [sk-file]}\nlimits: {max_body_bytes: 4096}")
    made = plan(tmp_path, "--config", str(config))
    assert made.client_key == "sk-file"
    assert made.settings.limits.max_body_bytes == 4096
    assert plan(tmp_path, "--config", str(config), "--api-key", "sk-flag").client_key == "sk-flag"


@pytest.mark.parametrize(
    ("host", "base_host"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")],
)
def test_base_url_is_one_that_a_client_here_can_use(tmp_path: Path, host: str, base_host: str) -> None:
    made = plan(tmp_path, "--host", host)
    assert made.base_url == f"http://{base_host}:{made.listen.port}/v1"


def test_two_that_are_planned_at_once_have_no_port_in_common(tmp_path: Path) -> None:
    """A port is free until its process listens, which is seconds later: no port may be fixed that nobody asked for."""
    one, two = plan(tmp_path / "one"), plan(tmp_path / "two")
    assert one.envoy_admin.port != two.envoy_admin.port


def test_admin_port_is_the_gateways_as_in_serve(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    for option in ("--admin-port", "--gateway-admin-port"):
        made = plan(tmp_path, option, str(port))
        assert [worker.admin_port for worker in made.workers] == [port]
        assert made.envoy_admin.port != port


def test_admin_ports_of_further_workers_follow_the_first(tmp_path: Path) -> None:
    first = next(port for port in range(20_000, 60_000, 7) if all(is_free(port + more) for more in range(3)))
    made = plan(tmp_path, "--admin-port", str(first), "--workers", "3")
    assert [worker.admin_port for worker in made.workers] == [first, first + 1, first + 2]
    code, message = refusal(tmp_path, "--admin-port", "65535", "--workers", "2")
    assert (code, message) == (2, "--admin-port 65535 leaves no ports for 2 workers.")


def is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def test_admin_port_may_come_from_the_settings_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    config = tmp_path / "settings.yaml"
    config.write_text(f"admin: {{port: {port}}}")
    assert plan(tmp_path, "--config", str(config)).workers[0].admin_port == port


def test_keys_of_notes_and_response_ids_outlive_a_run_in_the_same_directory(tmp_path: Path) -> None:
    first = plan(tmp_path).note_keys
    secret = first.read_text()
    assert plan(tmp_path).note_keys == first
    assert first.read_text() == secret
    first.chmod(0o644)
    assert plan(tmp_path).note_keys.read_text() != secret, "others may have read it"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_key_file_is_wanted_by_option_or_settings(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("callers: []")
    config = tmp_path / "settings.yaml"
    config.write_text(f"access: {{key_file: {keys}}}")
    for options in (("--key-file", str(keys)), ("--config", str(config))):
        made = plan(tmp_path, *options)
        assert (made.wants_keys, made.client_key) == (True, None)


def test_key_file_that_cannot_be_used_is_a_usage_error(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    assert refusal(tmp_path, "--key-file", str(keys)) == (
        2,
        f"There is no key file at {keys}; `aibrix-extproc keys new` makes one.",
    )
    keys.write_text("callers: nonsense")
    code, message = refusal(tmp_path, "--key-file", str(keys))
    assert code == 2
    assert "keys.yaml" in message


@pytest.mark.parametrize("option", ["--key-file", "--fleet"])
def test_file_that_is_none_is_told_as_what_it_is(tmp_path: Path, option: str) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (pipe, "no regular file"), (Path("/dev/zero"), "no regular file")):
        expected = f"{path} is {kind}; it must be a file that can be read again and again."
        assert refusal(tmp_path, option, str(path)) == (2, expected)


@pytest.mark.parametrize("option", ["--port", "--admin-port", "--envoy-admin-port"])
def test_taken_port_is_one_sentence_with_the_way_out(tmp_path: Path, busy_port: int, option: str) -> None:
    code, message = refusal(tmp_path, option, str(busy_port))
    assert code == 1
    assert message == (
        f"Cannot listen on 127.0.0.1:{busy_port}: address already in use; choose another port with {option}."
    )


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--engine", "http://a:1", "--model", "m"), 2, "exclude each other"),
        (("--engine", "http://a:1", "--fleet", "f"), 2, "--engine and --fleet exclude each other"),
        (("--fleet", "f", "--engines", "1"), 2, "exclude each other"),
        (("--engine-api-key", "k"), 2, "--engine-api-key is for engines named with --engine"),
        (("--fleet", "missing.yaml"), 2, "There is no fleet file at missing.yaml."),
        (("--engine", "https://a:1"), 2, "--engine https://a:1: https is not supported"),
        (("--engine", "http://a:1/v1"), 2, "has a path"),
        (("--engine", "a:1", "--engine", "a:1"), 2, "given already"),
        (("--host", "example.org"), 2, "is not an IP address"),
        (("--host", "203.0.113.1"), 1, "Cannot listen on 203.0.113.1"),
        (("--envoy", "/missing/envoy"), 1, "There is no Envoy at /missing/envoy."),
        (("--config", "/missing/settings.yaml"), 2, "cannot read the settings file /missing/settings.yaml"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    found, message = refusal(tmp_path, *options)
    assert words in message
    assert found == code


def test_endpoints_in_the_settings_are_refused_because_envoy_would_not_know_them(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("fleet: {endpoints: ['http://127.0.0.1:8000']}")
    assert "use --engine or --fleet" in refusal(tmp_path, "--config", str(config))[1]


@pytest.mark.parametrize("option", [("--port", "65536"), ("--engines", "0"), ("--workers", "-1")])
def test_numbers_out_of_range_are_a_usage_error(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*option)
    assert caught.value.code == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--port", "abc", "must be a port, 0 to 65535, not 'abc'"),
        ("--envoy-admin-port", "65536", "must be a port, 0 to 65535, not '65536'"),
        ("--engines", "0", "must be a number from 1 to 256, not '0'"),
        ("--engines", "two", "must be a number from 1 to 256, not 'two'"),
        ("--workers", "1000000", "must be a number from 1 to 256, not '1000000'"),
        ("--simulate", "'--seed 1", 'No closing quotation in "\'--seed 1"'),
        ("--model", " ", "must not be empty"),
    ],
)
def test_odd_value_is_refused_in_words(
    option: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(f"{option}={value}")
    assert f"error: argument {option}: {sentence}\n" in capsys.readouterr().err


def test_own_envoy_without_the_extra_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy_data_plane", None)  # how Python says that there is no such module
    expected = "Envoy's configuration cannot be built: in the clone run pip install -e '.[local]'."
    assert refusal(tmp_path, "--envoy", sys.executable) == (1, expected)


def test_models_of_several_tasks_are_simulated_together(tmp_path: Path) -> None:
    made = plan(
        tmp_path, "--model", "a", "--model", "b=embed", "--model", "c=rerank", "--model", "d=audio", "--engines", "1"
    )
    assert [(one.model, one.task) for one in made.simulated] == [
        ("a", ""), ("b", "embed"), ("c", "rerank"), ("d", "transcription"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("x=embd", "--model x=embd: a task is one of chat, embed, rerank, score, classify, audio; did you mean embed?"),
        ("x=7", "--model x=7: a task is one of chat, embed, rerank, score, classify, audio."),
        ("=embed", "--model '=embed' has no name; write NAME or NAME=TASK."),
    ],
)
def test_model_with_a_wrong_task_is_refused(tmp_path: Path, model: str, sentence: str) -> None:
    with pytest.raises(LocalError, match=re.escape(sentence)):
        plan(tmp_path, "--model", model)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--itl-m 20 --nonsense", "--simulate: unrecognized arguments: --nonsense. `aibrix-extproc simulate --help`"),
        ("--outptu-tokens 3", "--simulate: unrecognized arguments: --outptu-tokens 3; did you mean --output-tokens?"),
        ("--itl-ms abc", "--simulate: argument --itl-ms: must be a number, 0 or more, not 'abc'."),
    ],
)
def test_simulate_options_that_engines_would_refuse_are_refused_at_once(
    tmp_path: Path, options: str, sentence: str
) -> None:
    code, said = refusal(tmp_path, f"--simulate={options}")
    assert code == 2
    assert said.startswith(sentence)
    assert said.endswith("lists them.")
