"""The contracts of .importlinter have no holes: an import against them, added to the real graph, breaks them."""

from functools import cache
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

from tests.architecture.sources import ROOT

KINDS: dict[str, type[Contract]] = {
    "layers": LayersContract,
    "independence": IndependenceContract,
    "forbidden": ForbiddenContract,
}


@cache
def contracts() -> dict[str, Contract]:
    read = read_configuration(str(ROOT / ".importlinter"))
    return {
        options["id"]: KINDS[options["type"]](
            name=options["name"], session_options=read["session_options"], contract_options=options
        )
        for options in read["contracts_options"]
    }


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("aibrix_extproc", include_external_packages=True)


def kept(contract: str, changed: grimp.ImportGraph) -> bool:
    checked: Any = contracts()[contract].check(changed, verbose=False)
    return bool(checked.kept)


@pytest.mark.parametrize("contract", sorted(contracts()))
def test_contract_is_kept(contract: str) -> None:
    assert kept(contract, graph())


@pytest.mark.parametrize(
    ("contract", "importer", "imported"),
    [
        ("floors", "core.routing.plan", "adapters.engine.client"),
        ("floors", "core.routing.plan", "settings"),
        ("floors", "adapters.engine.client", "app.gateway"),
        ("floors", "http2.server", "adapters.extproc.session"),
        ("floors", "tls.files", "http2.server"),
        ("floors", "doctor.diagnose", "adapters.kube.access"),
        ("floors", "simulator.app", "adapters.engine.client"),
        ("floors", "adapters.engine.client", "simulator.app"),
        ("floors", "app.gateway", "cli.main"),
        ("floors", "rope", "core.nearest"),
        ("core", "core.openai.contract.errors", "core.fleet.model"),
        ("core", "core.fleet.model", "core.routing.plan"),
        ("core", "core.routing.plan", "core.exchange.machine"),
        ("core", "core.routing.plan", "core.access.keys"),
        ("adapters", "adapters.engine.client", "adapters.kube.access"),
        ("adapters", "adapters.keyfile.store", "adapters.fleetfile.parse"),
        ("strategies", "core.routing.scorers.random", "core.routing.scorers.round_robin"),
        ("conformance", "conformance.probe", "core.openai.contract.errors"),
        ("conformance", "conformance.probe", "rope"),
        ("conformance", "conformance.probe", "http2.server"),
        ("http2", "http2.server", "tls.credentials"),
        ("http2", "http2.frames", "rope"),
        ("http2", "http2.handler", "core.exchange.events"),
    ],
)
def test_import_against_a_contract_would_be_found(contract: str, importer: str, imported: str) -> None:
    names = f"aibrix_extproc.{importer}", f"aibrix_extproc.{imported}"
    assert set(names) <= graph().modules, "the names of a planted import are those of today"
    changed = graph().__deepcopy__({})
    changed.add_import(importer=names[0], imported=names[1])
    assert not kept(contract, changed)


@pytest.mark.parametrize(
    ("contract", "module"),
    [("floors", "aibrix_extproc.brand_new"), ("core", "aibrix_extproc.core.brand_new")],
)
def test_package_without_a_floor_would_be_found(contract: str, module: str) -> None:
    changed = graph().__deepcopy__({})
    changed.add_module(module)
    assert not kept(contract, changed)
