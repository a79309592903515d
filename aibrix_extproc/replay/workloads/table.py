"""The generators by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from aibrix_extproc.replay.trace import Trace
from aibrix_extproc.replay.workloads.agents import agents
from aibrix_extproc.replay.workloads.conversations import CONVERSATION, MULTI_TURN, conversations
from aibrix_extproc.replay.workloads.documents import adapters, bursts, rag


@dataclass(frozen=True, slots=True)
class Workload:
    """A generator: `make(seed, requests)`."""

    make: Callable[[int, int], Trace]
    meaning: str


WORKLOADS: Final[Mapping[str, Workload]] = MappingProxyType(
    {
        "conversation": Workload(
            partial(conversations, "conversation", CONVERSATION),
            "chats with the statistics of Mooncake's conversation trace",
        ),
        "multi-turn": Workload(
            partial(conversations, "multi-turn", MULTI_TURN), "long chats of applications that share instructions"
        ),
        "agents": Workload(agents, "coding agents by aiperf's published parameters"),
        "rag": Workload(rag, "questions about popular documents"),
        "adapters": Workload(adapters, "many LoRA adapters of one model"),
        "bursts": Workload(bursts, "code completions in bursts, as in Azure's code trace"),
    }
)
