"""Real Envoy, `serve` workers and simulated engines on ports that the kernel chose, as separate processes."""

import contextlib
import functools
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai

from aibrix_extproc.adapters.envoyproxy.configure import command as envoy_command
from aibrix_extproc.adapters.envoyproxy.configure import configuration as build_configuration
from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.config_files.replacing import write_atomically
from tests.dataplane.children import Child
from tests.dataplane.engines import ENGINE_KEY, Engine, EngineSpec
from tests.dataplane.raw import JSON, LOOPBACK, Answer, send
from tests.ports import free_port
from tests.type_hints import keep_type_hints
from tests.waiting import eventually

_SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


# What Envoy waits for gateways and engines where a test is not about that: a process here may stand still for long.
PATIENT: dict[str, Any] = {"message_timeout": 60.0, "connect_timeout": 10.0}
# As `local` runs it: the stream filter and the access log service in Envoy.
METERED: dict[str, Any] = {"stream_filter": STREAM_FILTER, "access_log_service": True, "access_log_flush": 0.05}
# As Envoy Gateway does, which has no filters for clusters.
METERED_IN_ROUTE: dict[str, Any] = METERED | {"answer_filter": None}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(slots=True)
class Worker:
    """One `serve` process."""

    child: Child
    port: int
    admin_port: int

    def admin(self, path: str) -> Answer:
        return send(self.admin_port, "GET", path)

    def explain(self, body: object) -> dict[str, Any]:
        """Where a chat would go now."""
        answer = send(self.admin_port, "POST", "/explain", JSON, json.dumps(body).encode())
        found: dict[str, Any] = answer.json()
        return found

    def metrics(self) -> list[Sample]:
        text = self.admin("/metrics").body.decode()
        return [
            Sample(found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"]))
            for found in _SAMPLE.finditer(text)
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = labels.items()
        return sum(one.value for one in self.metrics() if one.name == name and wanted <= one.labels.items())


@dataclass
class Stack:
    """Everything that one base URL needs. `engines` are separate processes if `killable`."""

    directory: Path
    engines: Sequence[EngineSpec]
    api_keys: tuple[str, ...] = ()
    serve_arguments: tuple[str, ...] = ()
    killable: bool = False
    workers_wanted: int = 1
    envoy_options: dict[str, Any] = field(default_factory=dict)  # fields of EnvoySpec
    envoy_change: Callable[[dict[str, Any]], None] | None = None  # for what no EnvoySpec says
    command: str = "serve"
    port: int = 0
    envoy_admin_port: int = 0
    workers: list[Worker] = field(default_factory=list)
    _engines: dict[str, Engine] = field(default_factory=dict)
    _hosts: dict[str, Child] = field(default_factory=dict)
    _children: list[Child] = field(default_factory=list)
    _envoy: Child | None = None

    def start(self) -> None:
        """Start everything and wait until all models are served through Envoy."""
        self._start_hosts()
        self.write_fleet()
        self.workers += [self._start_worker(index) for index in range(self.workers_wanted)]
        for worker in self.workers:
            _learn_ports(worker)
        self.start_envoy()
        self.wait_models({model for spec in self.engines for model in _served(spec)})
        if self.workers_wanted > 1:  # one of them has told its models
            self.wait_fleet_known()

    def stop(self) -> None:
        """End every process that was started, by its own pid."""
        for child in self._children:
            if child.running:
                child.kill()

    # --- what clients see

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    def client(self, **options: Any) -> openai.OpenAI:
        """The SDK, without retries unless asked for.

        It reads no authorities of the machine: that takes longer than most tests need for all else.
        """
        http = {"http_client": openai.DefaultHttpxClient(verify=False)}
        return openai.OpenAI(**http | self._client_options(options))

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        http = {"http_client": openai.DefaultAsyncHttpxClient(verify=False)}
        return openai.AsyncOpenAI(**http | self._client_options(options))

    def _client_options(self, options: dict[str, Any]) -> dict[str, Any]:
        key = self.api_keys[0] if self.api_keys else "any-key"
        return {"base_url": self.base_url, "api_key": key, "max_retries": 0, "timeout": 120.0} | options

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 60.0,
    ) -> Answer:
        """One request with a valid key; these headers come on top."""
        key = {"authorization": f"Bearer {self.api_keys[0]}"} if self.api_keys else {}
        return send(self.port, method, path, key | dict(headers or {}), body, timeout=timeout)

    def post(self, path: str, value: object, **headers: str) -> Answer:
        """A JSON body; underscores in header names stand for dashes."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.send("POST", path, json.dumps(value).encode(), JSON | named)

    def post_large(self, path: str, value: object, **headers: str) -> Answer:
        """`post` until there is another answer than 503.

        A busy machine may take longer to read a body of many megabytes than the gateway has time.
        """

        def answered() -> Answer | None:
            answer = self.post(path, value, **headers)
            return answer if answer.status != 503 else None

        return eventually(answered, "the large body was read in time")

    def models(self) -> set[str]:
        """What GET /v1/models says; nothing while there is no good answer."""
        with contextlib.suppress(OSError):
            answer = self.send("GET", "/v1/models")
            return {card["id"] for card in answer.json()["data"]} if answer.status == 200 else set()
        return set()

    def wait_models(self, wanted: set[str], deadline: float = 60.0) -> None:
        eventually(lambda: self.models() == wanted, f"the models are {sorted(wanted)}", seconds=deadline)

    def wait_fleet_known(self) -> None:
        """Wait until each worker has asked every engine once: before, it answers 503 `fleet_unknown`."""
        eventually(lambda: all(one.admin("/readyz").json()["fleet_known"] for one in self.workers), "all know it")

    # --- engines

    def engine(self, name: str) -> Engine:
        return self._engines[name]

    def engines_of(self, model: str) -> list[Engine]:
        return [one for one in self._engines.values() if model in _served(one.spec)]

    def kill_engine(self, name: str) -> None:
        self._hosts[name].kill()

    def start_engine(self, spec: EngineSpec, port: int = 0) -> Engine:
        """A new engine, or a dead one again on its port; not in the fleet until `write_fleet`."""
        child = self._run(
            f"engine-{spec.name}",
            [sys.executable, "-m", "aibrix_extproc", "simulate"],
            spec.command(port or free_port()),
        )
        url = child.wait_output("listening on ")
        self._hosts[spec.name] = child
        self._engines[spec.name] = Engine(spec, int(url.rpartition(":")[2]))
        return self._engines[spec.name]

    def adopt_engine(self, spec: EngineSpec, port: int) -> None:
        """An engine that the test runs itself; not in the fleet until `write_fleet`."""
        self._engines[spec.name] = Engine(spec, port)

    def restart_engine(self, name: str) -> None:
        engine = self._engines[name]
        self.start_engine(engine.spec, engine.port)

    def write_fleet(self, *names: str) -> None:
        """Tell Envoy and the workers of these engines; of all without names. Envoy keeps those that leave."""
        chosen = [self._engines[name] for name in names or self._engines]
        write_atomically(self._endpoints_file, render_endpoints(one.address for one in self._engines.values()))
        self.fleet_file.write_text(json.dumps({"endpoints": [_entry(one) for one in chosen]}))  # JSON is YAML

    @property
    def fleet_file(self) -> Path:
        return self.directory / "fleet.yaml"

    @property
    def _endpoints_file(self) -> Path:
        watched = self.directory / "endpoints"
        watched.mkdir(exist_ok=True)
        return watched / "endpoints.json"

    def _start_hosts(self) -> None:
        if self.killable:
            for spec in self.engines:
                self.start_engine(spec)
            return
        fleets = json.dumps([spec.command() for spec in self.engines])
        child = self._run("engines", [sys.executable, "-m", "tests.dataplane.engine_host"], [fleets])
        child.wait_output("all started")
        urls = [line for line in child.output().splitlines() if line.startswith("listening on ")]
        for spec, url in zip(self.engines, urls, strict=True):
            self._engines[spec.name] = Engine(spec, int(url.rpartition(":")[2]))

    # --- the gateway

    @property
    def worker(self) -> Worker:
        return self.workers[0]

    def restart_worker(self, index: int = 0) -> None:
        """The same worker again on the same ports; returns once it listens."""
        old = self.workers[index]
        self.workers[index] = self._start_worker(index, old.port, old.admin_port)
        _learn_ports(self.workers[index])

    def _start_worker(self, index: int, port: int = 0, admin_port: int = 0) -> Worker:
        ports = ["--port", str(port or free_port()), "--admin-port", str(admin_port or free_port())]
        program = [sys.executable, "-m", "aibrix_extproc", self.command, *ports]
        options = ["--fleet", str(self.fleet_file), "--engine-api-key", ENGINE_KEY]
        keys = [word for key in self.api_keys for word in ("--api-key", key)]
        pace = ["--fleet-poll-seconds", "0.5", "--note-keys", str(self._note_keys())]
        child = self._run(f"worker-{index}", program, [*options, *keys, *pace, *self.serve_arguments])
        return Worker(child, port, admin_port)

    def _note_keys(self) -> Path:
        """Envoy reports to any worker, so they share a key."""
        path = self.directory / "note-keys"
        if not path.exists():  # another worker may be reading it
            path.write_text("note-key-of-the-tests-" + "0" * 20)
        return path

    # --- Envoy

    @property
    def envoy(self) -> Child:
        assert self._envoy is not None
        return self._envoy

    def start_envoy(self) -> None:
        """Start Envoy; the second time on the ports of the first."""
        configuration = self.directory / "envoy.json"
        admin_file = self.directory / "envoy-admin"
        admin_file.unlink(missing_ok=True)
        self.write_envoy_configuration(configuration)
        arguments = list(envoy_command(find_envoy(), configuration, concurrency=1))
        self._envoy = self._run("envoy", arguments, ["--admin-address-path", str(admin_file)])
        eventually(self._envoy_is_up, "Envoy says where it listens")

    def write_envoy_configuration(self, path: Path) -> None:
        """As `local` writes it, but for `envoy_change`; for tests of other configurations to override."""
        built: dict[str, Any] = json.loads(configuration_of(self._spec()))
        if self.envoy_change is not None:
            self.envoy_change(built)
        path.write_text(json.dumps(built))

    def envoy_stats(self, pattern: str) -> dict[str, int]:
        """Envoy's counters and gauges whose names match."""
        text = send(self.envoy_admin_port, "GET", f"/stats?filter={pattern}").body.decode()
        pairs = (line.split(": ", 1) for line in text.splitlines())
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def _spec(self) -> EnvoySpec:
        return EnvoySpec(
            listen=SocketAddress(LOOPBACK, self.port),
            admin=SocketAddress(LOOPBACK, self.envoy_admin_port),
            processors=tuple(SocketAddress(LOOPBACK, worker.port) for worker in self.workers),
            endpoints_directory=self._endpoints_file.parent,
            access_log=self.directory / "access.log",
            **PATIENT | self.envoy_options,
        )

    def _envoy_is_up(self) -> bool:
        assert self.envoy.running, self.envoy.output()[-2000:]
        admin_file = self.directory / "envoy-admin"
        if not admin_file.exists() or not (address := admin_file.read_text()):
            return False
        self.envoy_admin_port = int(address.rpartition(":")[2])
        # It tells a port before it listens on it.
        if self._asked_of_envoy("/ready") != "LIVE\n":
            return False
        listening = re.search(rf"openai::{LOOPBACK}:(\d+)", self._asked_of_envoy("/listeners"))
        self.port = int(listening[1]) if listening else 0
        return bool(self.port)

    def _asked_of_envoy(self, path: str) -> str:
        with contextlib.suppress(OSError):
            return send(self.envoy_admin_port, "GET", path).body.decode()
        return ""

    # --- processes

    def _run(self, name: str, program: Sequence[str], arguments: Sequence[str]) -> Child:
        number = len(self._children)  # a process that is started again gets a log of its own
        child = Child(f"{number:02}-{name}", [*program, *arguments], self.directory)
        self._children.append(child)
        return child

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of each child's output, for a failed test."""
        for path in sorted(self.directory.glob("*.log")):
            yield path.stem, path.read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """A stack from start to end; what happens between cannot leave a process behind."""
    try:
        stack.start()
        yield stack
    except BaseException:
        for name, text in stack.logs():
            sys.stderr.write(f"--- {name}\n{text}\n")
        raise
    finally:
        stack.stop()
        shutil.rmtree(stack.directory, ignore_errors=True)


def configuration_of(spec: EnvoySpec) -> str:
    """Envoy's configuration as JSON. Building one takes half a second: stacks share it but for ports and paths."""
    # The stand-ins are ports that no kernel chooses by itself.
    ports = {one.port: 65_001 + number for number, one in enumerate(spec.processors)}
    folders = {str(spec.endpoints_directory): "/endpoints-of-the-stack", str(spec.access_log): "/log-of-the-stack"}
    text = _built(
        replace(
            spec,
            processors=tuple(SocketAddress(one.host, ports[one.port]) for one in spec.processors),
            endpoints_directory=Path(folders[str(spec.endpoints_directory)]),
            access_log=Path(folders[str(spec.access_log)]),
        )
    )
    for port, stand_in in ports.items():
        text = text.replace(f'"port_value": {stand_in}', f'"port_value": {port}')
    for folder, stand_in_folder in folders.items():
        text = text.replace(stand_in_folder, folder)
    return text


@functools.cache
def _built(spec: EnvoySpec) -> str:
    keep_type_hints()
    return json.dumps(build_configuration(spec))


def _learn_ports(worker: Worker) -> None:
    line = json.loads(worker.child.wait_output('"listening"'))
    worker.port = int(line["ext_proc"].rpartition(":")[2])
    worker.admin_port = int(line["admin"].rpartition(":")[2])


def _entry(engine: Engine) -> dict[str, object]:
    spec = engine.spec
    marks = {"labels": dict(spec.labels), "annotations": dict(spec.annotations)}
    return {"address": engine.address, "name": spec.name} | {name: value for name, value in marks.items() if value}


def _served(spec: EngineSpec) -> set[str]:
    words = spec.arguments
    adapters = {words[at + 1].partition("=")[0] for at, word in enumerate(words) if word == "--lora"}
    return {*spec.models, *adapters}
