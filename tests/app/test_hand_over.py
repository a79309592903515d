"""The file by which a process hands over what it has learned."""

import asyncio
import os
from pathlib import Path

import pytest

from aibrix_extproc.app.parts.hand_over import HandOver
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.predictor import Predictor
from tests.waiting import until


def taught() -> Predictor:
    predictor = Predictor()
    predictor.placed("r", RouteQuery("m", body_bytes=8_000), "e", 0.0)
    predictor.finished("r", 2.0)
    predictor.charged("r", Usage(2_000, 1, 2_001), 1.0)
    return predictor


async def test_the_next_process_knows_what_was_learned_whether_the_one_before_was_killed_or_ended(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state"
    part = HandOver(path, taught(), write_seconds=0.001)
    task = asyncio.create_task(part.run())
    await until(path.exists)
    after = Predictor()
    assert HandOver(path, after).report()["engines"] == 1
    assert after.speeds.is_known("m")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not part.degraded
    assert os.listdir(tmp_path) == ["state"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert not HandOver(tmp_path / "none", Predictor()).degraded


@pytest.mark.parametrize("kind", ["garbage", "large", "folder", "pipe"])
def test_what_is_no_state_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state"
    match kind:
        case "garbage":
            path.write_bytes(b"\x93\x01garbage")
        case "large":
            path.write_bytes(bytes(1_000_000))
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    predictor = Predictor()
    part = HandOver(path, predictor)
    assert part.report()["engines"] == 0
    assert part.degraded == (kind != "garbage")


async def test_a_folder_that_is_gone_is_said_and_the_part_goes_on(tmp_path: Path) -> None:
    part = HandOver(tmp_path / "gone" / "state", taught(), write_seconds=0.001)
    task = asyncio.create_task(part.run())
    await until(lambda: part.degraded)
    assert "gone" in str(part.report())
    (tmp_path / "gone").mkdir()
    await until(lambda: not part.degraded)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
