"""The topics of operations."""

from dataclasses import replace

import pytest

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Role
from aibrix_extproc.core.openai.reference.topics import ENGINES, TOPICS, topic_of

SERVED = [row for row in OPERATIONS if row.action in (Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA)]


def test_every_operation_of_users_has_a_topic_and_every_topic_operations() -> None:
    found = {topic_of(row).name for row in SERVED}
    assert found == {one.name for one in (*TOPICS, ENGINES)}
    assert not any(topic_of(row) is ENGINES for row in SERVED if row.role is Role.USER)


def test_a_path_that_no_topic_names_is_an_error_for_users_only() -> None:
    for row in SERVED:
        if row.role is not Role.USER:
            assert topic_of(replace(row, path="/nowhere")) is ENGINES
    with pytest.raises(LookupError):
        topic_of(replace(SERVED[0], path="/nowhere"))
