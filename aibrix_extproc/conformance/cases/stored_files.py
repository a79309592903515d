"""Acceptance 7.9: files and uploads. Each case removes what it has made."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Mismatch, Need
from aibrix_extproc.conformance.expect import check, expect_error, expect_json
from aibrix_extproc.conformance.shelf import Shelf, line, shelf

PATH: Final = "/v1/files"
PURPOSE: Final = "user_data"
UNKNOWN: Final = "file-conformanceunknown000"
LINE: Final = b'{"custom_id":"1"}\n'
DAY: Final = 86_400
MEGABYTE: Final = 1_000_000
MIB: Final = 1024 * 1024
LISTED: Final = 200  # of the newest files: others may store some meanwhile
ODD_NAME: Final = "conformance 日本 \u00e9'.txt"
STATUSES: Final = ("uploaded", "processed")


def _create(bench: Bench) -> None:
    with shelf(bench) as made:
        name = made.name()
        file = made.file(LINE, name=name)
        came = (file.object, file.bytes, file.filename, file.purpose)
        check(came == ("file", len(LINE), name, "batch"), f"a file object of {len(LINE)} bytes named {name}", came)
        check(file.id.startswith("file-"), "an id that begins with file-", file.id)
        check(file.status in STATUSES, f"status {' or '.join(STATUSES)}", file.status)
        life = None if file.expires_at is None else file.expires_at - file.created_at
        check(life == 30 * DAY, f"expires_at {30 * DAY} s after created_at", life)


def _form(bench: Bench, *parts: tuple[str, bytes]) -> Any:
    return bench.send("POST", PATH, samples.form(*parts), samples.form_type())


def _purpose(value: str = PURPOSE) -> tuple[str, bytes]:
    return 'name="purpose"', value.encode()


def _file_first(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.raw_file(_form(bench, samples.file_part(LINE, ODD_NAME), _purpose()))
        check(file.get("filename") == ODD_NAME, f"filename {ODD_NAME}", file)


def _life(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.file(LINE, PURPOSE, expires_after={"anchor": "created_at", "seconds": 3600})
        check(file.expires_at == file.created_at + 3600, "expires_at 3600 s after created_at", file)
        for seconds in (3599, 30 * DAY + 1):
            life = {"anchor": "created_at", "seconds": seconds}
            _refused(lambda life=life: made.file(LINE, PURPOSE, expires_after=life))


def _refused(call: Any, param: str | None = None) -> None:
    _, answer = sdk.refused(call, "BadRequestError")
    expect_error(answer, 400, **({"param": param} if param else {}))


def _bad_purpose(bench: Bench) -> None:
    with shelf(bench) as made:
        answer = _form(bench, samples.file_part(LINE, "conformance.txt"))
        if answer.status == 200:
            made.raw_file(answer)
        expect_error(answer, 400, param="purpose")
        _refused(lambda: made.file(LINE, "bogus"), "purpose")


def _not_jsonl(bench: Bench) -> None:
    with shelf(bench) as made:
        _refused(lambda: made.file(LINE, name=made.name(".txt")))


def _streamed(size: int, name: str) -> Iterator[bytes]:
    """The form of a file of zeros, piece by piece."""
    head, tail = samples.form(_purpose(), samples.file_part(b"@", name)).split(b"@")
    yield head
    for _ in range(size // MEGABYTE):
        yield bytes(MEGABYTE)
    yield bytes(size % MEGABYTE) + tail


def _too_large(bench: Bench) -> None:
    with shelf(bench) as made:
        answer = bench.send("POST", PATH, _streamed(512 * MIB + 1, made.name(".bin")), samples.form_type())
        if answer.status == 200:
            made.raw_file(answer)
        expect_error(answer, 413)


def _large(bench: Bench) -> None:
    with shelf(bench) as made:
        size = 199 * MEGABYTE
        file = made.raw_file(bench.send("POST", PATH, _streamed(size, made.name(".bin")), samples.form_type()))
        check(file.get("bytes") == size, f"a file of {size} bytes", file)


def _retrieve(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.file(LINE, PURPOSE)
        found = made.client.files.retrieve(file.id)
        check(found.to_dict() == file.to_dict(), f"{file.to_dict()}", found.to_dict())
    _gone(bench, lambda: bench.client().files.retrieve(UNKNOWN))
    expect_error(bench.send("GET", f"{PATH}/..%2F..%2Fetc"), 404)


def _gone(_: Bench, call: Any) -> None:
    _, answer = sdk.refused(call, "NotFoundError")
    expect_error(answer, 404, param="id")


def _all_pages(client: Any) -> tuple[Any, list[str]]:
    """The first page, and the ids of all. A cursor may be a file that another case has removed: four tries more."""
    for _ in range(4):
        with contextlib.suppress(sdk.not_found()):
            return _listed(client)
    return _listed(client)


def _listed(client: Any) -> tuple[Any, list[str]]:
    page = client.files.list(limit=2, purpose=PURPOSE)
    return page, [one.id for one in itertools.islice(page, LISTED)]


def _pages(bench: Bench) -> None:
    with shelf(bench) as made:
        wanted = {made.file(LINE, PURPOSE).id for _ in range(5)}
        page, found = _all_pages(made.client)
        fields = page.to_dict()
        ends = [fields.get("first_id"), fields.get("last_id")]
        check(len(page.data) == 2 and fields.get("has_more"), "two files and has_more", fields)
        check(ends == [page.data[0].id, page.data[1].id], "first_id and last_id of the page", ends)
        check(len(found) == len(set(found)), "each file once", found)
        check(wanted <= set(found), f"all of {sorted(wanted)}", found)


def _order(bench: Bench) -> None:
    with shelf(bench) as made:
        made.file(LINE, PURPOSE)
        made.file(LINE)
        listed = made.client.files.list(limit=100, order="asc").data
        times = [one.created_at for one in listed]
        check(listed and times == sorted(times), "oldest first", times)
        purposes = {one.purpose for one in made.client.files.list(limit=100, purpose=PURPOSE).data}
        check(purposes == {PURPOSE}, f"only purpose {PURPOSE}", purposes)
    answer = bench.send("GET", f"{PATH}?after={UNKNOWN}")
    if answer.status == 200:
        check(expect_json(answer).get("data") == [], "an empty list or a refusal", answer)
    else:
        expect_error(answer, 400, 404)


def _bad_limits(bench: Bench) -> None:
    for limit in ("0", "10001", "abc"):
        expect_error(bench.send("GET", f"{PATH}?limit={limit}"), 400, param="limit")


def _content(bench: Bench) -> None:
    content = bytes(range(256)) * 4000
    with shelf(bench) as made:
        file = made.file(content, PURPOSE, name=made.name(".bin"))
        answer = sdk.answer_of(made.client.files.content(file.id).response)
        check(answer.body == content, "the same bytes", f"{len(answer.body)} other bytes")
        check(file.filename in answer.header("content-disposition"), f"a content-disposition with {file.filename}",
              answer.header("content-disposition"))  # fmt: skip
        with made.client.files.with_streaming_response.content(file.id) as streamed:
            pieces = list(streamed.iter_bytes(65_536))
        check(b"".join(pieces) == content, "the same bytes as a stream", f"{sum(map(len, pieces))} other bytes")


def _delete(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.file(LINE, PURPOSE)
        gone = made.client.files.delete(file.id)
        check((gone.id, gone.object, gone.deleted) == (file.id, "file", True), "deleted true", gone)
        for call in (made.client.files.content, made.client.files.retrieve, made.client.files.delete):
            _gone(bench, lambda call=call: call(file.id))


def _wait(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.client.files.wait_for_processing(made.file(LINE, PURPOSE).id, max_wait_seconds=bench.seconds_left)
        check(file.status == "processed", "status processed", file.status)


def _aborted(bench: Bench) -> None:
    with shelf(bench) as made:
        name = made.name(".bin")
        body = samples.form(_purpose(), samples.file_part(b"x" * 200_000, name))
        headers = {**samples.form_type(), "content-length": str(len(body))}
        with bench.line() as wire:
            wire.socket.sendall(bench.head("POST", PATH, **headers) + body[: len(body) // 2])
        listed = expect_json(bench.send("GET", f"{PATH}?limit=100")).get("data")
        if not isinstance(listed, list):
            raise Mismatch("a list of files", str(listed))
        check(name not in [one.get("filename") for one in listed], f"no file {name}", "it is listed")
        made.file(LINE, PURPOSE)


def _empty(bench: Bench) -> None:
    with shelf(bench) as made:
        _refused(lambda: made.file(b"", PURPOSE))


def _upload(made: Shelf, content: bytes, part_size: int) -> Any:
    done = made.client.uploads.upload_file_chunked(
        file=content, filename=made.name(), bytes=len(content), mime_type="application/jsonl", purpose="batch",
        part_size=part_size,
    )  # fmt: skip
    check(done.status == "completed" and done.file, "status completed, with a file", done)
    made.keep(done.file.id)
    return done.file


def _chunked(bench: Bench) -> None:
    with shelf(bench) as made:
        lines = (line(f"chunked-{number}", bench.chat_body()) for number in range(3))
        content = "\n".join(lines).encode()
        file = _upload(made, content, 150)
        check(made.client.files.content(file.id).read() == content, "the same bytes", "others")
        done = made.ended(made.batch(b"", input_file_id=file.id))
        check(done.status == "completed", "a batch over it that completes", done)


def _bad_parts(bench: Bench) -> None:
    with shelf(bench) as made:
        uploads = made.client.uploads
        upload = uploads.create(bytes=6, filename=made.name(), mime_type="application/jsonl", purpose="batch")
        part = uploads.parts.create(upload.id, data=b"abc").id
        _refused(lambda: uploads.complete(upload.id, part_ids=[part]))
        _refused(lambda: uploads.complete(upload.id, part_ids=[part, "part_conformanceunknown"]))
        cancelled = uploads.cancel(upload.id)
        check(cancelled.status == "cancelled", "status cancelled", cancelled)
        _refused(lambda: uploads.complete(upload.id, part_ids=[part]))
    _, answer = sdk.refused(lambda: bench.client().uploads.cancel("upload_conformanceunknown"), "NotFoundError")
    expect_error(answer, 404)


_FILES: Final = (Need.FILES,)
FILE_CASES: Final = (
    # id, title, expected, check, needs
    Case("FILE-01", "create", "file object, exact bytes, expires after 30 days", _create, _FILES),
    Case("FILE-02", "form with the file first, UTF-8 name", "stored under that name", _file_first, _FILES),
    Case("FILE-03", "expires_after of 3599, 3600 and 2592001 s", "400, stored, 400", _life, _FILES),
    Case("FILE-04", "no purpose; an unknown one", "400 param purpose", _bad_purpose, _FILES),
    Case("FILE-05", "purpose batch with a .txt file", "400", _not_jsonl, _FILES),
    Case("FILE-06", "512 MiB and a byte", "413", _too_large, _FILES, is_large=True, time_factor=8),
    Case("FILE-07", "199 MB", "stored with its exact size", _large, _FILES, is_large=True, time_factor=4),
    Case("FILE-08", "retrieve; an unknown id", "the file; 404 param id", _retrieve, _FILES),
    Case("FILE-09", "list in pages of two", "each file once, first_id, last_id, has_more", _pages, _FILES),
    Case("FILE-10", "list by order, purpose and an unknown cursor", "sorted, filtered, 400 or empty", _order, _FILES),
    Case("FILE-11", "limit 0, 10001 and abc", "400 param limit", _bad_limits, _FILES),
    Case("FILE-12", "content, whole and as a stream", "the same bytes, content-disposition", _content, _FILES),
    Case("FILE-13", "delete", "deleted true, then 404", _delete, _FILES),
    Case("FILE-14", "the SDK's wait_for_processing", "returns with status processed", _wait, _FILES),
    Case("FILE-16", "upload that breaks off", "no file is listed", _aborted, _FILES),
    Case("FILE-17", "file of no bytes", "400", _empty, _FILES),
)  # fmt: skip
UPLOAD_CASES: Final = (
    Case("UPL-01", "the SDK's upload_file_chunked", "the same bytes, and batches can use them", _chunked,
         (Need.FILES, Need.UPLOADS, Need.BATCHES, Need.CHAT), time_factor=20),
    Case("UPL-02", "complete with too few bytes, an unknown part", "400", _bad_parts, (Need.UPLOADS,)),
)  # fmt: skip
