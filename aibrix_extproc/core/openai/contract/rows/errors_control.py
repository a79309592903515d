"""Errors of operations for those who operate the system."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.error_row import Cause, ErrorRow

ROWS: Final[Mapping[str, ErrorRow]] = MappingProxyType({
    "cordon_not_found": ErrorRow(
        status=404, param="cordon_id",
        causes=(Cause.STORED,),
        message="No such Cordon object: {id}",
        when="no cordon has the id, or it is over",
    ),
    "caller_not_found": ErrorRow(
        status=404, param="caller",
        causes=(Cause.STORED,),
        message="No such Caller object: {id}",
        when="no caller of the API has the name",
    ),
    "key_not_found": ErrorRow(
        status=404, param="key_id",
        causes=(Cause.STORED,),
        message="No such Key object: {id}",
        when="no key of the API has the id",
    ),
    "limit_not_found": ErrorRow(
        status=404, param="limit_id",
        causes=(Cause.STORED,),
        message="No such Limit object: {id}",
        when="no limit of the API has the id",
    ),
    "exists_already": ErrorRow(
        status=409, code="exists_already", should_retry=False,
        causes=(Cause.STORED,),
        message="{what} exists already.",
        when="creating a caller or a key that there is, or a limit with `If-None-Match: *`",
    ),
    "caller_has_keys": ErrorRow(
        status=409, code="caller_has_keys", should_retry=False,
        causes=(Cause.STORED,),
        message="The caller {id} has keys. Revoke them first, or disable the caller.",
        when="deleting a caller that has keys",
    ),
    "changed_meanwhile": ErrorRow(
        status=409, code="changed_meanwhile", should_retry=False,
        causes=(Cause.STORED,),
        message="{what} was changed by somebody else at the same moment. Please retry.",
        when="two changes of one record at the same moment",
    ),
})  # fmt: skip
