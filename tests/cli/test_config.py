"""`aibrix-extproc config` and the options that it shares with `serve`: one per setting, none typed twice."""

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest

from aibrix_extproc.cli.flags import add_settings_arguments, given_settings
from aibrix_extproc.cli.main import main
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.settings import Settings, build, flag_name

ENGINE = ("--endpoint", "http://127.0.0.1:1")
FIELDS = [
    (group, name, field)
    for group, declared in Settings.model_fields.items()
    if declared.annotation is not None
    for name, field in declared.annotation.model_fields.items()
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIBRIX_EXTPROC_SERVER__PORT", raising=False)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_settings_arguments(parser)
    return parser.parse_args(words)


def test_every_setting_has_an_option_of_its_own() -> None:
    options = Counter(flag_name(group, name) for group, name, _ in FIELDS)
    assert [option for option, count in options.items() if count > 1] == []
    known = {option for action in _actions() for option in action.option_strings}
    assert set(options) <= known


def _actions() -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    add_settings_arguments(parser)
    return parser._actions


def test_only_options_that_were_given_are_settings() -> None:
    assert given_settings(parsed()) | {"environment": {}} == {"file": {}, "environment": {}, "flag": {}}
    flags = given_settings(
        parsed("--port", "1", "--log-exchanges", "--endpoint", "http://a:1", "--endpoint", "http://b:2")
    )
    assert flags["flag"] == {
        "server": {"port": "1"},
        "log": {"exchanges": True},
        "fleet": {"endpoints": ["http://a:1", "http://b:2"]},
    }
    settings = build(flags)
    assert (settings.server.port, settings.fleet.endpoints) == (1, ("http://a:1", "http://b:2"))


def test_switch_can_be_turned_off_again(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("log: {exchanges: true}")
    assert build(given_settings(parsed("--config", str(file)))).log.exchanges
    assert not build(given_settings(parsed("--config", str(file), "--no-log-exchanges"))).log.exchanges


def test_config_prints_every_value_and_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("server: {host: 0.0.0.0, port: 1}\nlog: {format: text}")
    monkeypatch.setenv("AIBRIX_EXTPROC_SERVER__PORT", "2")
    assert main(["config", "--json", "--config", str(file), "--log-format", "json", *ENGINE]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [f"{group}.{name}" for group, name, _ in FIELDS]
    assert printed["server.host"] == {"value": "0.0.0.0", "from": "file"}
    assert printed["server.port"] == {"value": 2, "from": "environment"}
    assert printed["log.format"] == {"value": "json", "from": "flag"}
    assert printed["admin.port"] == {"value": 9003, "from": "default"}
    assert printed["fleet.endpoints"] == {"value": ["http://127.0.0.1:1"], "from": "flag"}
    assert printed["fleet.file"]["value"] is None
    assert printed["kubernetes.enabled"]["value"] is False
    assert printed["fleet.poll_seconds"]["value"] == 2.0


def test_config_prints_a_line_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", *ENGINE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"{group}.{name}" for group, name, _ in FIELDS]
    assert [line.split()[0] for line in lines if not line.endswith("(default)")] == ["fleet.endpoints"]


def test_config_never_shows_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("--api-key", "sk-secret-1", "--api-key", "sk-secret-2", "--engine-api-key", "sk-secret")
    assert main(["config", *ENGINE, *keys]) == 0
    printed = capsys.readouterr().out
    assert "secret" not in printed
    assert "***,***" in printed
    assert main(["config", "--json", *ENGINE, *keys]) == 0
    printed = capsys.readouterr().out
    assert "secret" not in printed
    assert json.loads(printed)["access.api_keys"]["value"] == ["***", "***"]


REFUSED = {
    "no engines": ((), "no engines: name a fleet file (--fleet FILE)"),
    "endpoint": (("--endpoint", "nonsense"), "--endpoint nonsense: 'nonsense' has no port"),
    "endpoint twice": ((*ENGINE, *ENGINE), "is given already"),
    "strategy": (
        (*ENGINE, "--strategy", "foo"),
        f"routing.strategy (--strategy): must be one of {', '.join(STRATEGIES)}",
    ),
    "strategy of AIBrix": (
        (*ENGINE, "--strategy", "prefix-cache-preble"),
        "predicted comes nearest to AIBrix's prefix-cache-preble",
    ),
    "certificate": (
        (*ENGINE, "--tls", "files", "--tls-cert", "/none"),
        "/none/tls.crt: the certificate cannot be read",
    ),
    "kubeconfig": (("--kubernetes", "--kubeconfig", "/none"), "the kubeconfig /none does not exist"),
    "pool for nothing": (
        (*ENGINE, "--inference-pool", "p"),
        "kubernetes.inference_pool is not used without kubernetes.enabled: true (--kubernetes)",
    ),
    "sharing without a Redis": (
        (*ENGINE, "--share-placements"),
        "routing.share: true (--share-placements) needs redis.url",
    ),
    "sharing without a secret": (
        (*ENGINE, "--share-placements", "--redis", "redis://127.0.0.1:1"),
        "routing.share: true (--share-placements) needs metering.note_keys",
    ),
    "kubeconfig for nothing": ((*ENGINE, "--kubeconfig", "/none"), "kubernetes.kubeconfig is not used without"),
    "one port twice": ((*ENGINE, "--admin-port", "9002"), "server.port and admin.port are both 9002"),
}


@pytest.mark.parametrize("command", ["config", "serve"])
@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=list(REFUSED))
def test_settings_that_cannot_be_served_are_refused_by_both_commands_alike(
    command: str, words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("aibrix-extproc: ")
    assert sentence in told


@pytest.mark.parametrize("option", ["--fleet", "--key-file"])
def test_file_that_serving_would_wait_for_is_told(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, broken = tmp_path / "none.yaml", tmp_path / "broken.yaml"
    broken.write_text("callers: [{name: a, keys: [], operations: [foo]}]\nendpoints: 5")
    assert main(["config", *ENGINE, option, str(missing)]) == 2
    assert f"{missing}: the " in capsys.readouterr().err
    assert main(["config", *ENGINE, option, str(broken)]) == 2
    printed = capsys.readouterr()
    assert f"aibrix-extproc: {broken}, line " in printed.err
    assert "server.port " in printed.out


def test_good_files_are_read_without_asking_for_names(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("endpoints: [{address: 'engine-1.invalid:8000'}]")
    assert main(["config", "--fleet", str(fleet)]) == 0


def test_help_lists_the_strategies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ", ".join(STRATEGIES) in shown.replace("- ", "-")  # lines are broken at hyphens, too


@pytest.mark.parametrize("command", ["config", "serve"])
def test_settings_that_cannot_be_used_exit_with_2_and_one_message(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--port", "http"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("aibrix-extproc: the settings are not valid:\n  server.port (--port): ")
