"""What may stand in a fleet file and in a flag, and what the refusals say."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.fleetfile.entry import HostPort, parse_address
from aibrix_extproc.adapters.fleetfile.parse import ENDPOINT_FIELDS, parse_file, parse_flag
from aibrix_extproc.cli.reference_fleetfile import EXAMPLE, FIELDS
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.core.fleet.model import ServedModel

FULL = """\
# the whole format
endpoints:
- address: 127.0.0.1:8001
  name: engine-1
  engine: vllm
  labels: {zone: a, rack: 7, spare: on}
  annotations:
    model.aibrix.ai/config: '{"lockedRoutingStrategy": "random"}'
    other: x
  models:
  - chat-m
  - {id: lora-a, parent: chat-m, max_model_len: 4096}
  api_key: sk-engine
- address: http://engine-2:8000/
  api_key_file: keys/engine-2
- address: "[::1]:8003"
"""


def test_file_with_every_field_gives_every_field() -> None:
    first, second, third = parse_file(FULL, "fleet.yaml")
    assert str(first.at) == "127.0.0.1:8001"
    assert (first.name, first.engine, first.api_key) == ("engine-1", "vllm", "sk-engine")
    assert dict(first.labels) == {"zone": "a", "rack": "7", "spare": "on"}
    assert first.config is not None
    assert (first.config.locked_strategy, first.annotations["other"]) == ("random", "x")
    assert first.models == (ServedModel("chat-m"), ServedModel("lora-a", "chat-m", 4096))
    assert second.at == HostPort("engine-2", 8000, is_name=True)
    assert second.api_key_file == "keys/engine-2"
    assert str(third.at) == "[::1]:8003"
    assert third.models == ()


def test_file_with_an_empty_list_gives_an_empty_fleet() -> None:
    assert parse_file("endpoints: []\n", "fleet.yaml") == ()


REFUSED = {
    "empty": ("", "fleet.yaml: the file is empty; for a fleet without endpoints write `endpoints: []`"),
    "comment-only": ("# nothing\n", "the file is empty"),
    "no-endpoints": ("{}", "fleet.yaml, line 1: the field endpoints is missing"),
    "endpoints-null": ("endpoints:\n", "line 1, endpoints: expected a list here, got nothing"),
    "root-list": ("- address: a:1\n", "line 1: expected fields with values here, got a list"),
    "unknown-top": ("endpoints: []\nmodels: []\n", "line 2, models: unknown field; known here: endpoints"),
    "unknown-field": (
        "endpoints:\n- address: a:1\n  adress: b:1\n",
        "line 3, endpoints[0].adress: unknown field; known here: address, name",
    ),
    "field-twice": ("endpoints:\n- name: a\n  name: b\n", "line 3, endpoints[0].name: given twice, first on line 2"),
    "config": (
        "endpoints:\n- address: a:1\n  annotations:\n    model.aibrix.ai/config: '[]'\n",
        "line 4, endpoints[0].annotations.model.aibrix.ai/config: no configuration (Expected `object`, got `array`)",
    ),
    "no-address": ("endpoints:\n- name: a\n", "line 2, endpoints[0]: the field address is missing"),
    "text-for-entry": ("endpoints: [sk-secret]", "endpoints[0]: expected fields with values here, got a text"),
    "https": ("endpoints:\n- address: https://a:1\n", "line 2, endpoints[0].address: https is not supported"),
    "same-address": (
        "endpoints:\n- address: 10.0.0.1:8000\n- address: http://10.0.0.1:8000/\n",
        "line 3, endpoints[1]: the address 10.0.0.1:8000 is given already at fleet.yaml, line 2, endpoints[0]",
    ),
    "same-model": ("endpoints: [{address: 'a:1', models: [m, {id: m}]}]", "models[1]: the model 'm' is given twice"),
    "model-without-id": ("endpoints: [{address: 'a:1', models: [{parent: m}]}]", "models[0]: the field id is missing"),
    "model-field": ("endpoints: [{address: 'a:1', models: [{id: m, len: 3}]}]", "models[0].len: unknown field"),
    "model-length": (
        "endpoints: [{address: 'a:1', models: [{id: m, max_model_len: -1}]}]",
        "max_model_len: '-1' is not a whole number above zero",
    ),
    "label-list": ("endpoints: [{address: 'a:1', labels: {zone: [a]}}]", "labels.zone: expected a text here"),
    "label-empty": ("endpoints: [{address: 'a:1', labels: {zone: ''}}]", "labels.zone: is empty"),
    "two-keys": ("endpoints: [{address: 'a:1', api_key: a, api_key_file: b}]", "exclude each other; keep one"),
    "not-yaml": ("endpoints:\n- address: 'a\n", "line 3: not YAML:"),
    "two-documents": ("endpoints: []\n---\nendpoints: []\n", "not YAML: but found another document"),
    "control-character": ("\x00", "fleet.yaml: not YAML:"),
    "deep": ("[" * 100_000, "line 1: nested too deeply"),
    "self-reference": ("endpoints: &a\n- *a\n", "endpoints[0]: expected fields with values here, got a list"),
    "object-tag": ("!!python/object/apply:os.getcwd []", "line 1: expected fields with values here, got a list"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_file_with_a_fault_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SourceFormatError) as caught:
        parse_file(text, "fleet.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["'se cret'", '"se\\ncret"', "sécret"], ids=["space", "newline", "not-ascii"])
def test_file_with_a_key_that_no_header_carries_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(SourceFormatError) as caught:
        parse_file(f"endpoints:\n- address: a:1\n  api_key: {key}\n", "fleet.yaml")
    assert "line 3, endpoints[0].api_key: the key is empty or has characters" in str(caught.value)
    assert "cret" not in str(caught.value)


def test_entry_as_text_does_not_show_its_key() -> None:
    (first, _, _) = parse_file(FULL, "fleet.yaml")
    assert "sk-engine" not in repr(first)


@given(st.text(max_size=200))
def test_file_of_any_text_is_read_or_refused_with_the_one_error(text: str) -> None:
    with suppress(SourceFormatError):
        parse_file(text, "fleet.yaml")


@pytest.mark.parametrize(
    ("text", "host_port"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        ("HTTP://127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://Engine-1.Local:80/", "engine-1.local:80"),
        ("[0:0::1]:8000", "[::1]:8000"),
        (" 10.0.0.1:1 ", "10.0.0.1:1"),
    ],
)
def test_address_in_any_accepted_form_becomes_canonical(text: str, host_port: str) -> None:
    assert str(parse_address(text)) == host_port


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1", "has no port"),
        ("[::1]", "has no port"),
        (":8000", "has no port"),
        ("a:0", "'0' is not a port"),
        ("a:65536", "'65536' is not a port"),
        ("a:8x", "'8x' is not a port"),
        ("ftp://a:1", "unknown scheme 'ftp'"),
        ("http://a:1/v1", "has a path"),
        ("::1:8000", "in brackets"),
        ("[10.0.0.1]:80", "in brackets"),
        ("10.1:80", "neither an address nor a host name"),
        ("a b:80", "neither an address nor a host name"),
        ("0.0.0.0:80", "an address to listen on"),
        ("[::]:80", "an address to listen on"),
        ("224.0.0.1:80", "not the address of one engine"),
        ("[fe80::1%eth0]:80", "not the address of one engine"),
    ],
)
def test_address_that_cannot_be_used_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(SourceFormatError) as caught:
        parse_address(text)
    assert message in str(caught.value)


def test_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(SourceFormatError) as caught:
        parse_flag("http://user:secret@10.0.0.1:80")
    assert "passwords do not belong in an address" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_flag_with_models_gives_static_models_and_the_common_key() -> None:
    entry = parse_flag("http://127.0.0.1:8001=model1, org/model2", api_key="sk-engine")
    assert entry.models == (ServedModel("model1"), ServedModel("org/model2"))
    assert (str(entry.at), entry.api_key) == ("127.0.0.1:8001", "sk-engine")
    assert parse_flag("127.0.0.1:8001").models == ()


@pytest.mark.parametrize("value", ["http://a:1=", "http://a:1=m,,n"])
def test_flag_with_an_empty_model_name_is_refused(value: str) -> None:
    with pytest.raises(SourceFormatError, match="empty model name"):
        parse_flag(value)


def test_reference_documents_every_field_and_its_example_is_read() -> None:
    assert tuple(FIELDS) == (
        "address", "name", "engine", "models", "role", "role_set", "labels", "annotations", "api_key", "api_key_file",
    )  # fmt: skip
    assert set(FIELDS) == set(ENDPOINT_FIELDS)
    entries = parse_file(EXAMPLE, "fleet.yaml")
    assert [str(one.at) for one in entries] == ["10.0.0.5:8000", "engine-2.example.com:8000", "[fd00::7]:8000"]
    assert [model.id for model in entries[2].models] == ["Qwen/Qwen3-8B", "sql-lora"]
    assert entries[2].config is not None


def test_role_and_role_set_are_fields_of_an_entry_or_come_from_its_labels() -> None:
    text = """
endpoints:
  - {address: "10.0.0.1:80", role: prefill, role_set: a, labels: {role-name: decode, roleset-name: b}}
  - {address: "10.0.0.2:80", labels: {role-name: decode, roleset-name: b}}
  - {address: "10.0.0.3:80"}
"""
    entries = parse_file(text, "fleet.yaml")
    assert [(one.role.value, one.role_set) for one in entries] == [("prefill", "a"), ("decode", "b"), ("both", "")]
    with pytest.raises(SourceFormatError, match="no role"):
        parse_file('endpoints: [{address: "10.0.0.1:80", role: prefil}]', "fleet.yaml")
