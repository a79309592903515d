"""Of the many entries that a refused union gives, those that tell what is wrong.

Pydantic tries each branch and reports them all, the first one first, which is rarely the one that was meant: five
texts in `stop` are reported as "not a string" and as "too long". A branch that the value did not belong to at all says
so by its type or by its tag (`type`, `role`); the others are what was meant.
"""

from typing import Final

from aibrix_extproc.core.openai.upstream.fields import RefusedField

_TAGS: Final = ("type", "role")


def decisive(entries: tuple[RefusedField, ...]) -> tuple[RefusedField, ...]:
    """The entries that count, the one to tell first; all of them if none says more than the others."""
    first = entries[0]
    if first.branch:
        return _of_branches(entries, first.place)
    if not first.is_type_mismatch:
        return entries
    beyond = tuple(one for one in entries[1:] if _is_beyond(one, first))
    return decisive(beyond) if beyond else entries


def _is_beyond(one: RefusedField, first: RefusedField) -> bool:
    """Whether an entry comes from a branch that took the value's own type."""
    if one.path == first.path:
        return not one.is_type_mismatch and not one.branch
    return one.path.startswith((f"{first.path}[", f"{first.path}."))


def _of_branches(entries: tuple[RefusedField, ...], place: str) -> tuple[RefusedField, ...]:
    branches: dict[str, list[RefusedField]] = {}
    for one in entries:
        if one.branch and one.place == place:
            branches.setdefault(one.branch, []).append(one)
    tags = [_wrong_tag(found, place) for found in branches.values()]
    for found, tag in zip(branches.values(), tags, strict=True):
        if tag is None and not any(one.path == place and one.is_type_mismatch for one in found):
            return tuple(found)
    wrong = [tag for tag in tags if tag is not None]
    return (_merged(wrong),) if wrong and len(wrong) == len(tags) else entries


def _wrong_tag(entries: list[RefusedField], place: str) -> RefusedField | None:
    wanted = tuple(f"{place}.{tag}" for tag in _TAGS)
    return next((one for one in entries if one.kind == "literal_error" and one.path in wanted), None)


def _merged(wrong: list[RefusedField]) -> RefusedField:
    """One entry that names the tags of all branches."""
    expected = dict.fromkeys(one.message.removeprefix("Input should be ") for one in wrong)
    first = wrong[0]
    return RefusedField(first.kind, first.param, ", ".join(expected), first.given, path=first.path)
