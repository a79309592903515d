"""An InferencePool: which pods it selects, and which of its ports are endpoints of a pod."""

import re
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.fleet.kubernetes.objects import InferencePool, Pod, annotations_of
from aibrix_extproc.core.fleet.kubernetes.podspec import ACTIVE_PORTS, MAX_PORT, Unusable, port_number

MAX_PORTS: Final = 64  # the API takes 8
_LABEL_KEY: Final = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Selector and ports of a pool. Without a selector it selects nothing, and the warnings say why."""

    selector: str = ""  # as the API's labelSelector parameter takes it
    ports: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_of(pool: InferencePool) -> PoolPlan:
    """The pool's selector and ports, each port once."""
    wanted = pool.spec.selector.match_labels or {}
    if not wanted:
        return PoolPlan(warnings=("left out: its selector matches no labels",))
    odd = [key for key, value in wanted.items() if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value))]
    if odd:
        return PoolPlan(warnings=(f"left out: no labels can match its selector {odd[0]!r}",))
    numbers = [port.number for port in pool.spec.target_ports or ()]
    usable = tuple(dict.fromkeys(number for number in numbers if 0 < number <= MAX_PORT))[:MAX_PORTS]
    warnings = tuple(f"target port {number} is none (1 to {MAX_PORT})" for number in numbers if number not in usable)
    if not usable:
        warnings += ("left out: it has no usable target port",)
    selector = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    return PoolPlan(selector if usable else "", usable, warnings)


def active_ports(pod: Pod, ports: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The pool's ports that the pod's annotation names, or all of them without one; and warnings."""
    annotations = annotations_of(pod)
    key = next((key for key in ACTIVE_PORTS if key in annotations), None)
    if key is None:
        return ports, ()
    named: list[int] = []
    warnings: list[str] = []
    for text in filter(None, (part.strip() for part in annotations[key][:1024].split(","))):
        try:
            number = port_number(key, text)
        except Unusable as error:
            warnings.append(str(error))
            continue
        if number in ports:
            named.append(number)
        else:
            warnings.append(f"{key}: {number} is no target port of the InferencePool")
    return tuple(port for port in ports if port in named), tuple(warnings)
