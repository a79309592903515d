"""The fleet file's text, and one --endpoint flag, to entries. Pure: nothing is looked up here."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from aibrix_extproc.adapters.fleetfile.entry import Entry, HostPort, parse_address
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.nodes import Place, collector_paused, compose
from aibrix_extproc.core.fleet.kubernetes.podspec import CONFIG
from aibrix_extproc.core.fleet.model import ServedModel
from aibrix_extproc.core.fleet.modelconfig import InvalidConfig, ModelConfig, parse_config
from aibrix_extproc.core.fleet.roles import EngineRole, role_of, role_set_of

MAX_ENDPOINTS: Final = 10_000
MAX_MODELS: Final = 1_000  # per endpoint
ENDPOINT_FIELDS: Final = (
    "address", "name", "engine", "role", "role_set", "labels", "annotations", "models", "api_key", "api_key_file",
)  # fmt: skip
MODEL_FIELDS: Final = ("id", "parent", "max_model_len")


def parse_file(text: str, file: str) -> tuple[Entry, ...]:
    """Every endpoint of a fleet file; the first fault found raises, naming file, line, field and what to do."""
    with collector_paused():
        return _parse(text, file)


def _parse(text: str, file: str) -> tuple[Entry, ...]:
    root = compose(text, file)
    if root is None:
        raise SourceFormatError(f"{file}: the file is empty; for a fleet without endpoints write `endpoints: []`")
    fields = root.fields(known=("endpoints",))
    if "endpoints" not in fields:
        root.fail("the field endpoints is missing; for a fleet without endpoints write `endpoints: []`")
    return refuse_repeated([_entry(item) for item in fields["endpoints"].items(MAX_ENDPOINTS)])


def parse_flag(
    value: str, api_key: str | None = None, *, flag: str = "--endpoint", role: EngineRole = EngineRole.BOTH
) -> Entry:
    """One value of a flag that gives endpoints: `http://host:port`, optionally `=model1,model2`."""
    where = f"{flag} {value}" if "@" not in value else flag
    address, equals, names = value.partition("=")
    models = tuple(ServedModel(name.strip()) for name in names.split(","))
    try:
        if equals and not all(model.id for model in models):
            raise SourceFormatError("there is an empty model name after the equals sign; write =model1,model2")
        at = parse_address(address)
        key = None if api_key is None else _key(api_key)
    except SourceFormatError as error:
        raise SourceFormatError(f"{where}: {error}") from error
    return Entry(where=where, at=at, models=models if equals else (), role=role, api_key=key)


def refuse_repeated(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries, if each has an address of its own."""
    first: dict[HostPort, Entry] = {}
    for entry in entries:
        if first.setdefault(entry.at, entry) is not entry:
            raise SourceFormatError(
                f"{entry.where}: the address {entry.at} is given already at {first[entry.at].where}; remove one"
            )
    return tuple(first.values())


def _entry(item: Place) -> Entry:
    fields = item.fields(known=ENDPOINT_FIELDS)
    if "address" not in fields:
        item.fail("the field address is missing; write address: 10.0.0.7:8000")
    if "api_key" in fields and "api_key_file" in fields:
        fields["api_key_file"].fail("api_key and api_key_file exclude each other; keep one")
    labels = fields["labels"].fields() if "labels" in fields else {}
    annotations = fields["annotations"].fields() if "annotations" in fields else {}
    texts = {key: value.text() for key, value in labels.items()}
    return Entry(
        where=item.where,
        at=fields["address"].checked(parse_address),
        name=fields["name"].text() if "name" in fields else "",
        engine=fields["engine"].text() if "engine" in fields else "vllm",
        labels=MappingProxyType(texts),
        annotations=MappingProxyType({key: value.text() for key, value in annotations.items()}),
        config=annotations[CONFIG].checked(_config) if CONFIG in annotations else None,
        models=_models(fields["models"]) if "models" in fields else (),
        role=fields["role"].checked(_role) if "role" in fields else role_of(texts)[0],
        role_set=fields["role_set"].text() if "role_set" in fields else role_set_of(texts),
        api_key=fields["api_key"].checked(_key) if "api_key" in fields else None,
        api_key_file=fields["api_key_file"].text() if "api_key_file" in fields else None,
    )


def _config(text: str) -> ModelConfig:
    try:
        return parse_config(text)
    except InvalidConfig as error:
        raise SourceFormatError(f"{error}; it is the JSON that a pod's annotation holds, written as text") from error


def _role(text: str) -> EngineRole:
    try:
        return EngineRole(text)
    except ValueError as error:
        raise SourceFormatError(f"{text!r} is no role; write {', '.join(EngineRole)}") from error


def _models(place: Place) -> tuple[ServedModel, ...]:
    models: dict[str, ServedModel] = {}
    for item in place.items(MAX_MODELS):
        model = ServedModel(item.text()) if item.is_text else _model(item)
        if model.id in models:
            item.fail(f"the model {model.id!r} is given twice; remove one")
        models[model.id] = model
    return tuple(models.values())


def _model(item: Place) -> ServedModel:
    fields = item.fields(known=MODEL_FIELDS)
    if "id" not in fields:
        item.fail("the field id is missing; write a model name, or {id: name}")
    return ServedModel(
        id=fields["id"].text(),
        parent=fields["parent"].text() if "parent" in fields else None,
        max_model_len=fields["max_model_len"].positive() if "max_model_len" in fields else None,
    )


def _key(text: str) -> str:
    """A key that fits into a header; never quoted in a message."""
    key = text.strip()
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise SourceFormatError("the key is empty or has characters that no HTTP header can carry")
    return key


def parse_key(text: str, where: str) -> str:
    """The content of a key file."""
    try:
        return _key(text)
    except SourceFormatError as error:
        raise SourceFormatError(f"{where}, api_key_file: {error}") from error
