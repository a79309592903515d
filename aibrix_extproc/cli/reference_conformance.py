"""docs/conformance.md: how to verify a deployment, and the table of cases."""

from collections.abc import Iterator
from typing import Final

from aibrix_extproc.cli.reference_markdown import page, table
from aibrix_extproc.conformance.screen import needs_of
from aibrix_extproc.conformance.table import CASES, GROUPS, NOT_ASKED

_HEAD: Final = """
`aibrix-extproc conformance` asks a running deployment what an application may ask, with the OpenAI SDK and, where no
SDK would do it, with plain HTTP, and says where the answers are not OpenAI's. It knows nothing but the base URL: run
it against this gateway, against a bare engine or against any other endpoint that claims to be compatible.

```sh
pip install -e '.[local,conformance]'                 # in a clone of this project
aibrix-extproc local --api-key secret-0123456789            # or any other deployment
aibrix-extproc conformance --base-url http://127.0.0.1:8080/v1 --api-key secret-0123456789
```

First it finds out whether a key is required, which models are listed and what they serve; options name models
instead. Then each case runs on its own, several at a time (`--concurrency`), each within `--timeout`. A line tells of
each result as it comes. The table at the end shows each case with what was expected, and under those that failed what
exactly was expected and what came; keys are masked. `--report html`, `--report json` and `--report junit` write the
same for people, scripts and CI systems; the page has failures by their causes. `--fields` adds cases for each
documented field of a request: a good value must be taken, and one of a wrong type refused, with the field as `param`.

Several deployments can be shown side by side:

```sh
aibrix-extproc conformance --base-url http://127.0.0.1:8080/v1 --fields --report json=ours.json
aibrix-extproc conformance --base-url http://127.0.0.1:8000/v1 --fields --report json=vllm.json
aibrix-extproc conformance --compare gateway=ours.json --compare vLLM=vllm.json --report html=compared.html
```

| exit code | meaning |
| --- | --- |
| 0 | every case passed or was skipped |
| 1 | a case failed |
| 2 | no case could be asked: wrong options, nobody at the base URL, a key that is refused |

A fault that several cases meet (no request id, say) is told with the first of them and once more in a list at the end,
with all cases that met it. Cases judge what programs depend on: statuses, the shape of errors, codes that programs
compare with. Wording is free, and so is a null where OpenAI names a code or param.

A case is skipped, with the reason, where the deployment lacks what it asks about. `--select` takes groups, `--only`
and `--skip` take IDs, `--quick` leaves out what moves tens of megabytes or opens hundreds of streams, and `--list`
shows what is left. Large cases load the deployment: 200 streams at a time (`--streams`), bodies over its limit
(`--body-limit-mib` must be more than it takes). Two cases ask for what must be refused, and change nothing where it is:
MOD-05 for the deletion of the chat model, AUTH-10 for the administration of engines, without the bodies that those
would obey. Connections are direct; proxies named in the environment are not used. The OpenAI SDK may be 1.109 or any
later one; the result can differ between generations, so verify with the one that your applications use.

Cases of files and uploads delete what they have made, and those of batches the input and result files; a batch itself
cannot be deleted, so about thirty small ones stay in the list. The names of all files begin with `conformance-`: a run
that is killed, or a case whose time ends, can leave some. A batch may take twenty times `--timeout`. FILE-06 sends half
a gigabyte.

HDR-09 asks for HTTP/1.0 and HTTP/1.1; the SDK speaks HTTP/2 only with further packages.
"""


def conformance_page() -> str:
    """The page."""
    parts = [part for group in GROUPS for part in _group(group)]
    missing = table(("case", "why it is not asked"), ((", ".join(ids), reason) for reason, ids in NOT_ASKED.items()))
    return page("Conformance", _HEAD, f"## Cases\n\n{len(CASES)} cases, by group.", *parts, "## Not asked", missing)


def _group(group: str) -> Iterator[str]:
    yield f"### {group}"
    yield table(
        ("id", "case", "expected", "needs"),
        ((case.id, case.title, case.expected, ", ".join(needs_of(case))) for case in GROUPS[group]),
    )
