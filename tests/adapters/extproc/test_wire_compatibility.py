"""Our protobuf definitions speak Envoy's wire format: held against a complete copy of Envoy's types, both ways.

Everything is driven by our descriptors, so a field added to protos/ is tested without a word here. A message is
generated as plain values; both libraries build it, and each reads what the other wrote.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import IntEnum
from typing import Any, Final

import pytest
from envoy_data_plane.envoy.service.ext_proc import v3 as envoy
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc._generated import external_processor_pb2 as ours
from aibrix_extproc.adapters.extproc.service import SERVICE

Plain = dict[str, Any]

DURATION: Final = "google.protobuf.Duration"  # a timedelta for both
REQUEST: Final[Any] = ours.ProcessingRequest.DESCRIPTOR
RESPONSE: Final[Any] = ours.ProcessingResponse.DESCRIPTOR
MAX_DEPTH: Final = 7  # Struct and Value hold one another

KINDS: Final = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
}
# Ours say it with a plainer type of the same wire format.
PLAINER: Final = {"envoy.service.ext_proc.v3.HttpStatus.code": ("int32", "enum")}


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    return message_of(field).fields_by_name["value"]


def message_of(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None
    return field.message_type


# ---- their side, by reflection on the dataclasses


def their_fields(cls: type) -> dict[int, dataclasses.Field[Any]]:
    return {field.metadata["betterproto"].number: field for field in dataclasses.fields(cls)}


def their_class(cls: type, name: str) -> Any:
    """The class of a field's values, or of a map's."""
    by_field = cls._betterproto.cls_by_field  # type: ignore[attr-defined]
    return by_field.get(f"{name}.value") or by_field[name]


def pairs() -> dict[str, tuple[Descriptor, type]]:
    """Every message reachable from the two that travel, with their class."""
    found: dict[str, tuple[Descriptor, type]] = {}

    def walk(descriptor: Descriptor, cls: type) -> None:
        if descriptor.full_name in found or descriptor.full_name == DURATION:
            return
        found[descriptor.full_name] = (descriptor, cls)
        theirs = their_fields(cls)
        for field in descriptor.fields:
            if field.message_type is not None and field.number in theirs:
                inner = map_value(field).message_type if is_map(field) else field.message_type
                if inner is not None:
                    walk(inner, their_class(cls, theirs[field.number].name))

    walk(REQUEST, envoy.ProcessingRequest)
    walk(RESPONSE, envoy.ProcessingResponse)
    return found


PAIRS: Final = pairs()
FIELDS: Final = [(field, cls) for descriptor, cls in PAIRS.values() for field in descriptor.fields]
BEYOND: Final = [
    (descriptor, cls, field)
    for descriptor, cls in PAIRS.values()
    for number, field in their_fields(cls).items()
    if number not in descriptor.fields_by_number
]
each_field = pytest.mark.parametrize(
    ("field", "cls"), FIELDS, ids=[field.full_name.split("v3.")[-1] for field, _ in FIELDS]
)


# ---- plain values: only what is set and differs from the default


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.full_name in PLAINER:
        return st.sampled_from([200, 204, 400, 401, 404, 405, 413, 415, 429, 500, 502, 503, 504])
    match KINDS[field.type]:
        case "bool":
            return st.just(True)
        case "bytes":
            return st.binary(min_size=1, max_size=30)
        case "double":
            return st.floats(allow_nan=False).filter(bool)
        case "enum":
            assert field.enum_type is not None
            numbers = [value.number for value in field.enum_type.values]
            return st.sampled_from([number for number in numbers if number or field.has_presence])
        case "int32":
            return st.integers(-(2**31), 2**31 - 1).filter(bool)
        case "string":
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
        case "uint32":
            return st.integers(1, 2**32 - 1)
        case kind:
            raise AssertionError(f"no values for {kind}: {field.full_name}")


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values of a field, of one element if it is repeated."""
    if field.message_type is None:
        return scalars(field)
    if field.message_type.full_name == DURATION:
        return st.timedeltas(timedelta(0), timedelta(days=300))  # their class writes negative ones wrongly
    return messages(field.message_type, depth + 1)


def contents(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if is_map(field):
        return st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
                               values(map_value(field), depth), min_size=1, max_size=2)  # fmt: skip
    if field.is_repeated:
        return st.lists(values(field, depth), min_size=1, max_size=2)
    return values(field, depth)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0, wanted: FieldDescriptor | None = None) -> Plain:
    """A message with some of its fields set, with `wanted` among them, and one of each oneof at most."""
    chosen = [wanted] if wanted is not None else []
    taken = {field.containing_oneof for field in chosen}
    for field in descriptor.fields:
        free = field.containing_oneof is None or field.containing_oneof not in taken
        if field is not wanted and free and depth < MAX_DEPTH and draw(st.integers(0, depth + 1)) == 0:
            chosen.append(field)
            taken.add(field.containing_oneof)
    return {field.name: draw(contents(field, depth)) for field in chosen}


# ---- plain values to messages and back, for both libraries


def our_message(plain: Plain, descriptor: Descriptor) -> Message:
    message = GetMessageClass(descriptor)()
    for name, value in plain.items():
        field = descriptor.fields_by_name[name]
        target = getattr(message, name)
        if is_map(field):
            for key, one in value.items():
                target[key].CopyFrom(our_message(one, message_of(map_value(field))))
        elif field.is_repeated and field.message_type is not None:
            target.extend(our_message(one, field.message_type) for one in value)
        elif field.is_repeated:
            target.extend(value)
        elif field.message_type is None:
            setattr(message, name, value)
        elif field.message_type.full_name == DURATION:
            target.FromTimedelta(value)
            target.SetInParent()
        else:
            target.CopyFrom(our_message(value, field.message_type))
            target.SetInParent()
    return message


def our_values(message: Message) -> Plain:
    return {field.name: _our_value(field, value) for field, value in message.ListFields()}


def _our_value(field: FieldDescriptor, value: Any) -> Any:
    if is_map(field):
        return {key: our_values(one) for key, one in value.items()}
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.full_name == DURATION:
        return value.ToTimedelta()
    return [our_values(one) for one in value] if field.is_repeated else our_values(value)


def their_message(plain: Plain, descriptor: Descriptor, cls: type) -> Any:
    names = their_fields(cls)
    arguments = {}
    for name, value in plain.items():
        field = descriptor.fields_by_name[name]
        their_name = names[field.number].name
        arguments[their_name] = _their_argument(field, value, their_class(cls, their_name))
    return cls(**arguments)


def _their_argument(field: FieldDescriptor, value: Any, cls: Any) -> Any:
    if is_map(field):
        return {key: their_message(one, message_of(map_value(field)), cls) for key, one in value.items()}
    if field.message_type is None:
        return cls(value) if isinstance(cls, type) and issubclass(cls, IntEnum) else value
    if field.message_type.full_name == DURATION:
        return value
    if field.is_repeated:
        return [their_message(one, field.message_type, cls) for one in value]
    return their_message(value, field.message_type, cls)


def their_values(message: Any, descriptor: Descriptor) -> Plain:
    """What theirs holds, of the fields that we know."""
    names = their_fields(type(message))
    return {field.name: value for field, value in _their_set_values(message, descriptor, names)}


def _their_set_values(
    message: Any, descriptor: Descriptor, names: Mapping[int, dataclasses.Field[Any]]
) -> Iterator[tuple[FieldDescriptor, Any]]:
    for field in descriptor.fields:
        value = getattr(message, names[field.number].name)
        if value is None or (not field.has_presence and not value):
            continue
        if is_map(field):
            inner = message_of(map_value(field))
            yield field, {key: their_values(one, inner) for key, one in value.items()}
        elif field.message_type is None or field.message_type.full_name == DURATION:
            yield field, value
        elif field.is_repeated:
            yield field, [their_values(one, field.message_type) for one in value]
        else:
            yield field, their_values(value, field.message_type)


def check_both_ways(plain: Plain, descriptor: Descriptor, cls: Any) -> None:
    from_us = our_message(plain, descriptor)
    assert our_values(from_us) == plain
    assert their_values(cls.parse(from_us.SerializeToString()), descriptor) == plain
    from_them = bytes(their_message(plain, descriptor, cls))
    assert our_values(GetMessageClass(descriptor).FromString(from_them)) == plain


# ---- the tests


def test_every_message_that_we_define_travels_and_has_a_counterpart() -> None:
    defined = {message.full_name for message in ours.DESCRIPTOR.message_types_by_name.values()}
    assert defined <= set(PAIRS)


@each_field
def test_field_has_the_number_name_kind_and_group_of_envoys(field: FieldDescriptor, cls: type) -> None:
    theirs = their_fields(cls)[field.number]
    meta = theirs.metadata["betterproto"]
    assert theirs.name == field.name
    kind = "map" if is_map(field) else KINDS[field.type]
    assert PLAINER.get(field.full_name, (kind, kind)) == (kind, meta.proto_type)
    assert meta.repeated is (field.is_repeated and not is_map(field))
    assert meta.group == (field.containing_oneof.name if field.containing_oneof else None)


@pytest.mark.parametrize(
    ("field", "cls"), [(field, cls) for field, cls in FIELDS if field.enum_type is not None],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_enum_has_the_names_and_numbers_of_envoys(field: FieldDescriptor, cls: type) -> None:
    theirs = {member.value: member.name for member in their_class(cls, field.name)}
    assert field.enum_type is not None
    for value in field.enum_type.values:
        assert value.name.endswith(theirs[value.number])


@each_field
@settings(max_examples=4)
@given(st.data())
def test_field_is_read_as_it_was_written_in_both_directions(
    field: FieldDescriptor, cls: type, data: st.DataObject
) -> None:
    descriptor: Any = field.containing_type
    check_both_ways(data.draw(messages(descriptor, MAX_DEPTH - 2, field)), descriptor, cls)


@settings(max_examples=25)
@given(messages(REQUEST))
def test_request_of_envoy_is_read_in_full(plain: Plain) -> None:
    check_both_ways(plain, REQUEST, envoy.ProcessingRequest)


@settings(max_examples=25)
@given(messages(RESPONSE))
def test_response_of_ours_is_read_in_full(plain: Plain) -> None:
    check_both_ways(plain, RESPONSE, envoy.ProcessingResponse)


SAMPLES: Final = {"string": "x", "bytes": b"x", "bool": True, "double": 1.5}


def a_value(field: dataclasses.Field[Any], cls: Any) -> Any:
    """Some value of a field of theirs that is no default."""
    meta = field.metadata["betterproto"]
    value = SAMPLES.get(meta.proto_type, 1)
    inner = their_class(cls, field.name)
    if meta.proto_type == "enum":
        value = inner(1)
    elif meta.proto_type == "message":
        value = timedelta(1) if inner is timedelta else True if inner is bool else inner()
    elif meta.proto_type == "map":
        value = {"x": inner() if meta.map_meta[1].proto_type == "message" else "x"}
    return [value] if meta.repeated else value


@pytest.mark.parametrize(
    ("descriptor", "cls", "field"), BEYOND, ids=[f"{descriptor.name}.{field.name}" for descriptor, _, field in BEYOND]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_field_of_envoy_that_we_do_not_define_is_skipped(
    descriptor: Descriptor, cls: type, field: dataclasses.Field[Any]
) -> None:
    sent = bytes(cls(**{field.name: a_value(field, cls)}))
    assert sent
    assert our_values(GetMessageClass(descriptor).FromString(sent)) == {}


def test_there_are_fields_of_envoy_that_we_do_not_define() -> None:
    assert BEYOND


def test_service_and_method_are_envoys() -> None:
    (service,) = ours.DESCRIPTOR.services_by_name.values()
    (method,) = service.methods
    assert service.full_name == SERVICE
    (route,) = envoy.ExternalProcessorBase().__mapping__()
    assert route == f"/{service.full_name}/{method.name}"
    assert (method.client_streaming, method.server_streaming) == (True, True)
    assert method.input_type.full_name.endswith(envoy.ProcessingRequest.__name__)
    assert method.output_type.full_name.endswith(envoy.ProcessingResponse.__name__)
