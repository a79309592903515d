"""Header changes put together byte by byte are what the protobuf library would write."""

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.extproc import encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import HeaderValueOption, ProcessingResponse
from aibrix_extproc.core.exchange.outputs import Continue, Phase

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=140)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers(100, 40_000).map("ü".__mul__)


@given(st.lists(st.tuples(names, values), max_size=6), st.lists(names, max_size=6))
def test_library_reads_the_same_changes(changed: list[tuple[str, str]], removed: list[str]) -> None:
    reply = Continue(Phase.RESPONSE_HEAD, set_headers=tuple(changed), remove_headers=tuple(removed))
    wanted = ProcessingResponse()
    wanted.response_headers.SetInParent()
    if changed or removed:
        mutation = wanted.response_headers.response.header_mutation
        for name, value in changed:
            option = mutation.set_headers.add()
            option.append_action = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
            option.header.key = name
            latin = all(ord(one) < 256 for one in value)
            option.header.raw_value = value.encode("latin-1" if latin else "utf-8")
        mutation.remove_headers.extend(removed)
    assert ProcessingResponse.FromString(encoding.encode(reply)) == wanted
