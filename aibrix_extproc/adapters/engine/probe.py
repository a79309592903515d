"""Everything to find out about one engine in one look, and what need not be asked again.

vLLM does not say its task anywhere that is always on, but registers its routes by it: which exist is asked once per
start of the engine. Sleep and pause routes exist in development mode only; a paused engine is healthy by its own
account and lets requests hang, so where there are such routes they are asked with every look.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.adapters.engine.client import EngineClient
from aibrix_extproc.adapters.engine.errors import EngineError, EngineTimeout, EngineUnreachable
from aibrix_extproc.core.fleet.model import Health, ServedModel, Task
from aibrix_extproc.core.fleet.reduce import Observed

TASK_ROUTES: Final[Mapping[Task, str]] = MappingProxyType(
    {
        Task.GENERATE: "/v1/chat/completions",
        Task.EMBED: "/v1/embeddings",
        Task.SCORE: "/score",
        Task.CLASSIFY: "/classify",
        Task.TRANSCRIBE: "/v1/audio/transcriptions",
    }
)
REST_ROUTES: Final = (
    # path, field of the answer, what to tell the operator
    # In vLLM 0.32 and 0.33 both are one state: each route is true after a sleep and after a pause, and /wake_up ends
    # either, while /resume leaves a sleep as it is.
    ("/is_sleeping", "is_sleeping", "asleep or paused; POST /wake_up ends both"),
    ("/is_paused", "is_paused", "paused; let it go on with POST /resume"),
)
WEIGHTS_ROUTE: Final = "/weight_info"
NO_LISTING: Final = "it has no /v1/models: only models that the fleet's configuration gives are served"
ALIVE: Final = "it answers requests, but not its polls"
ASK_AGAIN_SECONDS: Final = 180.0  # for a route that was missing


class EngineProbe:
    """Polls one engine, and remembers what does not change while it runs."""

    def __init__(self, client: EngineClient, identity: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._identity = identity
        self._clock = clock
        self.listed = False  # whether the last look read the list of models
        self._must_list = False  # whether the next look has to
        self._ready = False  # whether the last look found it so
        self._has_listing = True
        self._models: tuple[ServedModel, ...] = ()
        self._tasks: frozenset[Task] | None = None
        self._weights: str | None = None
        self._version: str | None = None  # of the engine's program, asked for with the tasks
        self._tasks_of: frozenset[str] = frozenset()  # the base models that the tasks were found with
        self._missing_until: dict[str, float] = {}

    async def look(self) -> Observed:
        """Ask the engine once; an EngineError says why that was not possible."""
        try:
            return await self._look()
        except EngineError as error:
            self._ready = self.listed = False
            if isinstance(error, EngineUnreachable) and not isinstance(error, EngineTimeout):
                # Behind the same address there may be another engine when it is back.
                self._tasks = None
                self._missing_until.clear()
            raise

    def leave_out_health(self) -> None:
        """Let the next look ask for the list of models, which the last one has asked for, and not for the health."""
        self.listed = False

    def list_next(self) -> None:
        """Let the next look read the list of models, whatever a look that runs meanwhile reads."""
        self._must_list = True

    @property
    def may_rest(self) -> bool:
        """Whether the engine has a route that reports sleep or pause."""
        return any(self._clock() >= self._missing_until.get(path, 0.0) for path, _, _ in REST_ROUTES)

    async def look_for_rest(self) -> Observed | None:
        """Ask only whether the engine sleeps or is paused; None if it works. An EngineError says why not."""
        rest = await self._rest()
        if not rest:
            return None
        self._ready = False
        return Observed(self._identity, Health.ASLEEP, self._models, self._tasks, rest)

    def failed(self, error: EngineError) -> Observed:
        """The observation of a failed poll: the health changes, what the engine serves stays as it was known."""
        return Observed(self._identity, error.health, detail=str(error))

    def silent(self, error: EngineError) -> Observed:
        """The state of an engine that was ready and now answers no poll in time."""
        return Observed(self._identity, Health.SILENT, detail=str(error))

    def alive(self) -> Observed:
        """The observation of an engine that answers clients, but no poll in time."""
        return Observed(self._identity, Health.READY, detail=ALIVE)

    async def _look(self) -> Observed:
        # A ready engine is asked for its health and for its models in turn: either proves that it is there, and one
        # request less per look halves what watching a large fleet costs.
        list_again = not self._ready or not self.listed or self._must_list
        self._must_list = False
        if not self._ready or self.listed:
            await self._client.check_health()
        if list_again:
            models = await self._client.list_models()
            self._has_listing = models is not None
            self._models = models or ()
        rest = await self._rest()
        if list_again:
            self._weights = await self._weight_version()
        tasks = await self._find_tasks()
        self.listed = list_again
        self._ready = not rest
        health, detail = (Health.ASLEEP, rest) if rest else (Health.READY, "" if self._has_listing else NO_LISTING)
        return Observed(
            self._identity, health, self._models, tasks, detail, self._client.frontend, self._weights, self._version
        )  # fmt: skip

    async def _rest(self) -> str:
        """Why the engine is at rest; empty while it works."""
        for path, field, reason in REST_ROUTES:
            if self._clock() < self._missing_until.get(path, 0.0):
                continue
            resting = await self._client.ask_flag(path, field)
            if resting:
                return reason
            if resting is None:
                self._missing_until[path] = self._clock() + ASK_AGAIN_SECONDS
        return ""

    async def _weight_version(self) -> str | None:
        """The version of the engine's weights; a missing route is not asked for again at once."""
        if self._clock() < self._missing_until.get(WEIGHTS_ROUTE, 0.0):
            return None
        version = await self._client.weight_version()
        if version is None:
            self._missing_until[WEIGHTS_ROUTE] = self._clock() + ASK_AGAIN_SECONDS
        return version

    async def _find_tasks(self) -> frozenset[Task]:
        bases = frozenset(model.id for model in self._models if model.parent is None)
        if self._tasks is None or bases != self._tasks_of:
            answers = {task: await self._client.has_route(path) for task, path in TASK_ROUTES.items()}
            # An engine that answers neither 405 nor 404 leaves the question open: no task known, nothing refused.
            known = None not in answers.values()
            self._tasks = frozenset(task for task, exists in answers.items() if exists) if known else frozenset()
            self._tasks_of = bases
            self._version = await self._client.engine_version()
        return self._tasks
