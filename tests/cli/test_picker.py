"""What the picker's options say in settings."""

import argparse
from pathlib import Path

import pytest

from aibrix_extproc.cli.picker import add_arguments, by_source
from aibrix_extproc.settings import LogFormat, LogLevel, Settings, SettingsError, Tls, build


def settings(*words: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return build(by_source(parser.parse_args(words)))


# As the conformance tests of the inference extension start their pickers.
CONFORMANCE = (
    *("--pool-name", "primary-inference-pool", "--pool-namespace", "inference-conformance-app-backend"),
    *("--v", "4", "--zap-encoder", "json", "--grpc-port", "9002", "--grpc-health-port", "9003"),
    *("--config-file", "/config/conformance-plugins.yaml"),
)


def test_picker_of_a_pool_watches_it_and_serves_tls_on_every_address() -> None:
    said = settings(*CONFORMANCE)
    assert said.kubernetes.enabled
    assert said.kubernetes.inference_pool == "primary-inference-pool"
    assert said.kubernetes.namespaces == ("inference-conformance-app-backend",)
    assert (said.server.host, said.server.port, said.server.health_port) == ("0.0.0.0", 9002, 9003)
    assert (said.admin.host, said.admin.port) == ("0.0.0.0", 9090)
    assert said.server.tls is Tls.SELF_SIGNED
    assert (said.log.format, said.log.level) == (LogFormat.JSON, LogLevel.DEBUG)
    assert said.routing.destinations == 1
    assert said.picker.assume_duplex
    assert not said.picker.test_mode


def test_picker_without_a_pool_needs_no_cluster() -> None:
    said = settings("--endpoint", "http://127.0.0.1:8000", "--metrics-port", "0", "--test-mode")
    assert not said.kubernetes.enabled
    assert said.fleet.endpoints == ("http://127.0.0.1:8000",)
    assert said.admin.port == 0
    assert said.picker.test_mode


@pytest.mark.parametrize(
    ("words", "tls"),
    [
        ((), Tls.SELF_SIGNED),
        (("--secure-serving",), Tls.SELF_SIGNED),
        (("--secure-serving=true",), Tls.SELF_SIGNED),
        (("--secure-serving", "False"), Tls.NONE),
        (("--secure-serving=false", "--cert-path", "/certs"), Tls.NONE),
        (("--cert-path", "/certs"), Tls.FILES),
        (("--tls", "none"), Tls.NONE),
        (("--tls", "files", "--tls-cert", "/certs"), Tls.FILES),
    ],
)
def test_tls_is_on_unless_told_otherwise(words: tuple[str, ...], tls: Tls) -> None:
    said = settings(*words)
    assert said.server.tls is tls
    assert said.server.tls_cert == (Path("/certs") if tls is Tls.FILES else None)


def test_file_and_environment_come_before_what_a_picker_is_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("server: {host: 10.0.0.1, tls: none}\nrouting: {destinations: 3}\n")
    monkeypatch.setenv("AIBRIX_EXTPROC_ROUTING__DESTINATIONS", "4")
    said = settings("--config", str(file), "--v=2")
    assert (said.server.host, said.server.tls, said.routing.destinations) == ("10.0.0.1", Tls.NONE, 4)
    assert said.log.level is LogLevel.INFO


def test_pool_of_the_environment_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIBRIX_EXTPROC_KUBERNETES__INFERENCE_POOL", "pool")
    assert settings().kubernetes.enabled


def test_log_for_people_is_the_console_encoder() -> None:
    assert settings("--zap-encoder", "console", "-v", "3").log.format is LogFormat.TEXT


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings("--secure-serving=perhaps")
    assert "neither true nor false" in capsys.readouterr().err
    with pytest.raises(SettingsError):
        settings("--grpc-port", "many")


def test_help_tells_the_defaults_of_a_picker_and_not_those_of_serve() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    told = {one.dest: one.help or "" for one in parser._actions}
    at_start = settings()
    for name in ("server.host", "server.health_port", "server.tls", "admin.host", "admin.port", "routing.destinations"):
        group, field = name.split(".")
        assert f"(default: {getattr(getattr(at_start, group), field)})" in told[name], name
