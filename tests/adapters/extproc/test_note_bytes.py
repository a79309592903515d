"""Notes put together byte by byte are what the protobuf library would write."""

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingResponse
from aibrix_extproc.adapters.extproc.note_bytes import note_bytes
from aibrix_extproc.core.openai.contract.headers import NOTES_NAMESPACE

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers(100, 40_000).map("ü".__mul__)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=140)


@given(st.dictionaries(names, texts | st.booleans(), min_size=1, max_size=9))
def test_library_reads_the_same_notes(notes: dict[str, str | bool]) -> None:
    read = ProcessingResponse.FromString(note_bytes(tuple(notes.items())))
    wanted = ProcessingResponse()
    fields = wanted.dynamic_metadata.fields[NOTES_NAMESPACE].struct_value.fields
    for name, value in notes.items():
        if isinstance(value, bool):
            fields[name].bool_value = value
        else:
            fields[name].string_value = value
    assert read == wanted


def test_flags_and_texts_of_equal_worth_are_told_apart() -> None:
    """1 == True and "" == "": what is remembered of one must not be given for another."""
    for value in (True, False, "", "true"):
        read = ProcessingResponse.FromString(note_bytes((("a", "x"), ("b", value), ("c", "y"))))
        told = read.dynamic_metadata.fields[NOTES_NAMESPACE].struct_value.fields["b"]
        assert (told.string_value if isinstance(value, str) else told.bool_value) == value
        assert told.WhichOneof("kind") == ("string_value" if isinstance(value, str) else "bool_value")
