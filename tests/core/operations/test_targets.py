"""Engines of an operation are endpoints of the fleet that the caller may operate, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import pytest

from aibrix_extproc.core.fleet.model import EMPTY, Endpoint, Health, ServedModel
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS
from aibrix_extproc.core.operations.targets import Target, targets
from tests.build import a_snapshot


@dataclass(frozen=True)
class Asker:
    is_admin: bool = True
    models: Sequence[str] | None = None
    adapters: Sequence[str] | None = None

    def may(self, operation: str, *, model: str | None = None, adapter: str | None = None) -> bool:
        pairs = ((model, self.models), (adapter, self.adapters))
        return all(
            name is None or given is None or any(map(partial(fnmatchcase, name), given)) for name, given in pairs
        )


ADMIN = Asker()


def engine(number: int, base: str = "llama", *loras: str, **changes: object) -> Endpoint:
    models = (ServedModel(base, None, 8192), *(ServedModel(name, base) for name in loras))
    address = f"10.0.0.{number}:8000"
    return Endpoint(address, address, models=models, health=Health.READY, **changes)  # type: ignore[arg-type]


FLEET = a_snapshot(
    engine(1), engine(2, "llama", "sql"), engine(3, "qwen"), engine(4, "qwen", "chat"),
)  # fmt: skip


def asked(
    operation: str = "sleep", fleet: object = FLEET, asker: Asker = ADMIN, **target: str
) -> tuple[str, ...] | tuple[str, str | None]:
    found = targets(ENGINE_OPERATIONS[operation], Target(**target), fleet, asker)  # type: ignore[arg-type]
    if isinstance(found, Problem):
        return found.key, found.param
    return tuple(one.address.partition(":")[0].rpartition(".")[2] for one in found)


def test_all_engines_if_nothing_is_named() -> None:
    assert asked() == ("1", "2", "3", "4")


def test_engines_of_a_model_or_of_an_adapter() -> None:
    assert asked(model="qwen") == ("3", "4")
    assert asked(model="sql") == ("2",)
    assert asked(model="nope") == ("model_not_found", "model")


def test_adapter_is_unloaded_where_it_is_and_loaded_where_its_base_is() -> None:
    assert asked("unload_lora_adapter", adapter="sql") == ("1", "2"), "the first one may have it since its last poll"
    assert asked("unload_lora_adapter", adapter="unknown") == ("1", "2", "3", "4")
    assert asked("load_lora_adapter", adapter="new") == ("invalid_value", "model")
    assert asked("load_lora_adapter", adapter="new", model="llama") == ("1", "2")
    assert asked("load_lora_adapter", a_snapshot(engine(1), engine(2)), adapter="new") == ("1", "2")
    assert asked("load_lora_adapter", adapter="qwen", model="qwen") == ("invalid_value", "lora_name")


def test_adapters_of_two_models_do_not_share_a_name() -> None:
    assert asked("load_lora_adapter", adapter="sql", model="qwen") == ("invalid_value", "lora_name")
    assert asked("load_lora_adapter", adapter="sql", addresses="10.0.0.3:8000") == ("invalid_value", "lora_name")
    assert asked("load_lora_adapter", adapter="sql", model="llama") == ("1", "2")
    assert asked("unload_lora_adapter", adapter="sql", addresses="10.0.0.3:8000") == ("3",)


def test_only_addresses_of_the_fleet_and_only_for_admins() -> None:
    assert asked(addresses="10.0.0.2:8000, 10.0.0.3:8000,10.0.0.2:8000") == ("2", "3")
    for given in ("10.0.0.9:8000", "10.0.0.1", "http://10.0.0.1:8000", "", "10.0.0.1:8000,", "169.254.169.254:80"):
        assert asked(addresses=given) == ("unknown_endpoint", "x-target-endpoints")
    assert asked(asker=Asker(is_admin=False), addresses="10.0.0.1:8000") == ("permission_denied", None)
    assert asked(addresses="10.0.0.1:8000", model="qwen") == ("no_engines", None)


def test_operator_of_some_models_sees_only_their_engines() -> None:
    operator = Asker(is_admin=False, models=("qw*",), adapters=("chat*",))
    assert asked(asker=operator) == ("3", "4")
    assert asked(asker=operator, model="llama") == ("model_not_found", "model")
    assert asked("load_lora_adapter", asker=operator, adapter="chat2") == ("3", "4")
    assert asked("load_lora_adapter", asker=operator, adapter="sql2") == ("permission_denied", None)
    assert asked("unload_lora_adapter", asker=operator, adapter="sql") == ("permission_denied", None)
    unknown = Endpoint("a", "10.0.0.8:8000", health=Health.UNKNOWN)
    assert asked(fleet=a_snapshot(unknown), asker=operator) == ("no_engines", None)


@pytest.mark.parametrize("health", [one for one in Health if one is not Health.DRAINING])
def test_engine_of_any_health_is_asked(health: Health) -> None:
    one = Endpoint("a", "10.0.0.8:8000", health=health)
    assert asked(fleet=a_snapshot(one)) == ("8",)


def test_engines_that_leave_have_no_address_or_are_no_vllm_are_left_out() -> None:
    leaving = Endpoint("a", "10.0.0.8:8000", health=Health.DRAINING)
    without = Endpoint("b", "", health=Health.READY)
    other = Endpoint("c", "10.0.0.7:8000", engine="sglang", health=Health.READY)
    assert asked(fleet=a_snapshot(leaving, without, other)) == ("no_engines", None)
    assert asked(fleet=a_snapshot(leaving), addresses="10.0.0.8:8000") == ("8",)
    assert asked(fleet=EMPTY) == ("no_engines", None)
