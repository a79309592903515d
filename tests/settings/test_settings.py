"""Settings: who wins, what is refused, and that each refusal says where and what."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from aibrix_extproc.settings import (
    ENV_PREFIX,
    GROUPS,
    LogFormat,
    Settings,
    SettingsError,
    build,
    environment_with,
    flag_name,
    load,
    read_environment,
    read_file,
    sources,
)

WriteFile = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes a settings file."""

    def writing(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return writing


def env(**variables: str) -> dict[str, str]:
    return {ENV_PREFIX + name: value for name, value in variables.items()}


def complaint(**given: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**{"environment": {}, **given})  # type: ignore[arg-type]
    return str(caught.value)


def test_without_any_source_everything_has_a_default() -> None:
    assert load(environment={}) == Settings()


def test_environment_wins_over_the_file_and_flags_over_both(write: WriteFile) -> None:
    path = write("server: {host: file, port: 1, drain_seconds: 1}\nlog: {format: text}\n")
    settings = load(
        file=path,
        environment=env(SERVER__PORT="2", SERVER__DRAIN_SECONDS="2"),
        flags={"server": {"drain_seconds": "3"}},
    )
    assert (settings.server.host, settings.server.port, settings.server.drain_seconds) == ("file", 2, 3.0)
    assert settings.log.format is LogFormat.TEXT


def test_group_that_one_source_touches_keeps_what_others_say_of_it(write: WriteFile) -> None:
    settings = load(file=write("admin: {host: 0.0.0.0}"), environment={}, flags={"admin": {"port": "1"}})
    assert (settings.admin.host, settings.admin.port) == ("0.0.0.0", 1)


def test_sources_are_told_apart_from_low_to_high(write: WriteFile) -> None:
    found = sources(file=write("server: {port: 1}"), environment=env(SERVER__PORT="2"), flags={"server": {"port": "3"}})
    assert {name: tree["server"]["port"] for name, tree in found.items()} == {
        "file": 1,
        "environment": "2",
        "flag": "3",
    }
    assert list(found) == ["file", "environment", "flag"]


def test_list_of_the_environment_is_separated_by_commas() -> None:
    settings = load(environment=env(FLEET__ENDPOINTS="http://a:1,http://b:2=m", ACCESS__API_KEYS="sk-1,sk-2"))
    assert settings.fleet.endpoints == ("http://a:1", "http://b:2=m")
    assert [key.get_secret_value() for key in settings.access.api_keys] == ["sk-1", "sk-2"]


def test_text_with_a_comma_is_no_list_where_one_value_is_expected() -> None:
    assert load(environment=env(SERVER__HOST="a,b")).server.host == "a,b"


def test_empty_variable_is_as_good_as_none_and_others_are_not_ours() -> None:
    variables = {**env(SERVER__PORT=""), "AIBRIX_OTHER__X": "1", "PATH": "/bin", "aibrix_extproc_server__port": "1"}
    assert read_environment(variables) == {}


def test_case_of_a_variable_does_not_matter_behind_the_prefix() -> None:
    assert read_environment(env(Server__port="7")) == {"server": {"port": "7"}}


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "server: {}\n"])
def test_file_that_says_nothing_changes_nothing(write: WriteFile, text: str) -> None:
    assert load(file=write(text), environment={}) == Settings()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"flags": {"server": {"prot": "1"}}}, "server.prot (--server-prot)"),
        ({"flags": {"sever": {"port": "1"}}}, "sever (--sever-port)"),
        ({"environment": env(SERVER__PROT="1")}, "server.prot (AIBRIX_EXTPROC_SERVER__PROT)"),
        ({"environment": env(SEVER__PORT="1")}, "sever (AIBRIX_EXTPROC_SEVER__PORT)"),
    ],
)
def test_unknown_setting_is_refused_wherever_it_comes_from(given: dict[str, object], where: str) -> None:
    message = complaint(**given)
    assert f"  {where}: there is no such setting" in message
    assert "aibrix-extproc config --help" in message


def test_unknown_setting_of_the_file_is_refused(write: WriteFile) -> None:
    path = write("server: {prot: 1}")
    assert f"server.prot ({path}): there is no such setting" in complaint(file=path)


def test_variable_without_a_group_says_how_it_should_look() -> None:
    assert complaint(environment=env(PORT_OF_MINE="1")) == (
        "AIBRIX_EXTPROC_PORT_OF_MINE: expected AIBRIX_EXTPROC_<GROUP>__<FIELD>"
    )


def test_every_mistake_is_told_on_a_line_of_its_own() -> None:
    message = complaint(flags={"server": {"port": "70000", "drain_seconds": "-1"}, "log": {"level": "loud"}})
    head, *lines = message.splitlines()
    assert head == "the settings are not valid:"
    assert [line.split(" (")[0].strip() for line in lines] == ["server.port", "server.drain_seconds", "log.level"]
    assert all(len(line.split(": ", 1)[1]) > 10 for line in lines)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("server", "port", "http"),
        ("server", "port", -1),
        ("limits", "max_body_bytes", 1023),
        ("fleet", "poll_seconds", 0),
        ("fleet", "poll_seconds", "nan"),
        ("routing", "strategy", ""),
        ("log", "exchanges", "perhaps"),
        ("fleet", "endpoints", 5),
    ],
)
def test_value_that_cannot_be_used_is_refused(group: str, field: str, value: object) -> None:
    assert f"{group}.{field} ({flag_name(group, field)}): " in complaint(flags={group: {field: value}})


@pytest.mark.parametrize(
    ("group", "field", "value", "sentence"),
    [
        ("access", "api_keys", [""], "access.api_keys: value 1 must not be empty"),
        ("access", "api_keys", ["sk-1", "x" * 513], "access.api_keys: value 2 must have at most 512 characters"),
        ("access", "api_keys", "sk-1", "access.api_keys: must be a list"),
        ("kubernetes", "context", "", "kubernetes.context: must not be empty"),
        ("kubernetes", "context", "x" * 257, "kubernetes.context: must have at most 256 characters"),
        ("kubernetes", "page_size", "0", "kubernetes.page_size: must be at least 1"),
        ("fleet", "file", 5, "fleet.file: must be a path"),
        ("fleet", "poll_seconds", "0", "fleet.poll_seconds: must be more than 0"),
        ("fleet", "poll_seconds", "soon", "fleet.poll_seconds: must be a number"),
        ("fleet", "poll_seconds", [1], "fleet.poll_seconds: must be a number"),
        ("limits", "max_body_bytes", 1 << 40, "limits.max_body_bytes: must be at most 1073741824"),
        ("log", "exchanges", "perhaps", "log.exchanges: must be true or false"),
        ("log", "exchanges", [], "log.exchanges: must be true or false"),
        ("log", "level", "loud", "log.level: must be 'debug', 'info', 'warning' or 'error'"),
        ("routing", "strategy", 5, "routing.strategy: must be text"),
        ("server", "drain_seconds", "nan", "server.drain_seconds: must be at most 86400"),
        ("server", "port", "9" * 5000, "server.port: must be a whole number of fewer digits"),
        ("server", "port", "http", "server.port: must be a whole number"),
        ("server", "port", 1.5, "server.port: must be a whole number"),
        ("server", "port", None, "server.port: must be a whole number"),
        ("server", "port", "70000", "server.port: must be at most 65535"),
        (
            "server",
            "prot",
            "1",
            "server.prot: there is no such setting (see `aibrix-extproc config --help`); did you mean server.port?",
        ),
    ],
)
def test_mistake_is_told_in_plain_words(group: str, field: str, value: object, sentence: str) -> None:
    name, _, wrong = sentence.partition(": ")
    said = f"{name} ({flag_name(group, field)}): {wrong}"
    assert complaint(flags={group: {field: value}}) == f"the settings are not valid:\n  {said}"


def test_every_kind_of_mistake_that_a_setting_can_have_has_plain_words() -> None:
    """Values of every kind, given to every setting: none is answered in the words of a library."""
    odd: list[object] = [
        "",
        "x",
        "\0",
        "-1",
        "1e400",
        "9" * 5000,
        -1,
        1.5,
        1e308,
        None,
        True,
        [],
        [""],
        [5],
        {},
        {"a": 1},
        b"x",
    ]
    told = []
    for group, declared in Settings.model_fields.items():
        assert declared.annotation is not None
        for field in declared.annotation.model_fields:
            for value in odd:
                try:
                    load(environment={}, flags={group: {field: value}})
                except SettingsError as error:
                    told.append(str(error))
    assert len(told) > 100
    assert [one for one in told if re.search(r"Input|should|pydantic|class|valid(?! *:)", one.split("\n", 1)[1])] == []


def test_wrong_value_names_what_gave_it(write: WriteFile) -> None:
    path = write("server: {port: x}")
    low, high = env(SERVER__PORT="y"), {"server": {"port": "z"}}
    origins = [
        complaint(file=path), complaint(file=path, environment=low), complaint(file=path, environment=low, flags=high)
    ]  # fmt: skip
    assert origins == [
        f"the settings are not valid:\n  server.port ({origin}): must be a whole number"
        for origin in (path, "AIBRIX_EXTPROC_SERVER__PORT", "--port")
    ]


def test_settings_that_contradict_one_another_have_no_single_origin() -> None:
    assert complaint(environment=env(SERVER__TLS="files")).startswith("the settings are not valid:\n  server: tls")


def test_complaint_about_a_key_does_not_show_it() -> None:
    assert "sk-secret" not in complaint(flags={"access": {"api_keys": [["sk-secret"]]}})


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load(environment=env(ACCESS__API_KEYS="sk-secret", FLEET__ENGINE_API_KEY="sk-secret"))
    assert "sk-secret" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_missing_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert complaint(file=path) == f"cannot read the settings file {path}: No such file or directory"


@pytest.mark.parametrize("text", ["server: [", "\t", "a: b: c"])
def test_file_that_is_no_yaml_is_named(write: WriteFile, text: str) -> None:
    path = write(text)
    told = complaint(file=path)
    # What is cut off at the end of the file is missed on the line behind it.
    assert told.startswith((f"{path}, line 1 is not valid YAML: ", f"{path}, line 2 is not valid YAML: "))
    assert "\n" not in told


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    assert complaint(file=path) == f"{path} is not UTF-8; save it as UTF-8"


@pytest.mark.parametrize("text", ["[]", "text", "server: 1", "server: [port]", "server:"])
def test_file_of_another_structure_says_what_is_expected(write: WriteFile, text: str) -> None:
    message = complaint(file=write(text))
    assert "expected groups of settings" in message
    assert all(group in message for group in GROUPS)


@pytest.mark.parametrize("text", ["1: {port: 1}", "server: {1: 2}", "null: {}"])
def test_file_with_keys_that_are_no_words_is_refused_like_any_unknown_setting(write: WriteFile, text: str) -> None:
    assert complaint(file=write(text)).startswith("the settings are not valid:")


def test_yaml_tags_that_would_build_objects_are_refused(write: WriteFile) -> None:
    assert "not valid YAML" in complaint(file=write("server: !!python/object/apply:os.system [true]"))


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        setattr(settings, "server", settings.server)  # noqa: B010 (mypy knows that it is frozen)
    with pytest.raises(ValidationError):
        setattr(settings.server, "port", 1)  # noqa: B010


def test_every_setting_is_described_for_its_reference() -> None:
    for group, declared in Settings.model_fields.items():
        model = declared.annotation
        assert model is not None
        assert model.__doc__, group
        for name, field in model.model_fields.items():
            assert field.description, f"describe {group}.{name}: `description` of its field in settings/"
            assert not field.description.endswith("."), f"{group}.{name}"


def test_file_is_read_as_nested_mappings(write: WriteFile) -> None:
    assert read_file(write("server:\n  port: 1\n")) == {"server": {"port": 1}}


def test_built_values_have_their_types() -> None:
    settings = build({"flag": {"fleet": {"file": "fleet.yaml"}, "log": {"exchanges": "true"}}})
    assert settings.fleet.file == Path("fleet.yaml")
    assert settings.log.exchanges is True


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_9002_TCP", "ADMIN_PORT_9003_TCP_ADDR"]
)
def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_not_settings(name: str) -> None:
    assert load(environment={f"AIBRIX_EXTPROC_{name}": "tcp://10.0.0.1:9002"}) == load(environment={})


def test_setting_with_one_underscore_too_few_is_refused_not_ignored() -> None:
    with pytest.raises(SettingsError, match="expected AIBRIX_EXTPROC_<GROUP>__<FIELD>"):
        load(environment={"AIBRIX_EXTPROC_SERVER_PORT": "9002"})


@pytest.mark.parametrize(("server", "said"), [
    ({"tls": "files"}, "tls: files needs tls_cert (--tls-cert), and tls_key unless that is a directory"),
    ({"tls_cert": "/tls"}, "tls_cert and tls_key are not used with tls: none; set it to files (--tls files)"),
    ({"tls": "self-signed", "tls_key": "/k"}, "tls_cert and tls_key are not used with tls: self-signed"),
    ({"tls_names": ["a"]}, "tls_names are not used with tls: none; set it to self-signed"),
], ids=["files without files", "files for nothing", "files beside a made one", "names for nothing"])  # fmt: skip
def test_tls_settings_that_contradict_one_another_are_refused(server: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=r"\n  server: tls") as refusal:
        build({"file": {"server": server}})
    assert said in str(refusal.value)


def test_lists_in_the_environment_are_comma_separated_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "AIBRIX_EXTPROC_ACCESS__API_KEYS"
    for value, keys in {"a,b": ["a", "b"], '["a,b", "c"]': ["a,b", "c"], "[a,b": ["[a", "b"], "[1]": ["[1]"]}.items():
        assert read_environment({name: value}) == {"access": {"api_keys": keys}}
    monkeypatch.setenv(name, "other")
    for keys in (["a,b", '["c"]', "[d"], ["é"]):
        assert read_environment(environment_with({"access": {"api_keys": keys}}))["access"] == {"api_keys": keys}
