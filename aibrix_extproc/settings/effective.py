"""The effective settings: file, environment and flags, merged and checked."""

from pathlib import Path

from pydantic import ValidationError

from aibrix_extproc.settings.groups import GROUPS, Settings, fields_of, flag_name, variable_name
from aibrix_extproc.settings.invalid import describe
from aibrix_extproc.settings.sources import SettingsError, Tree, read_environment, read_file


def load(*, file: Path | None = None, flags: Tree | None = None, environment: dict[str, str] | None = None) -> Settings:
    """The effective settings. Raises SettingsError with one line for each wrong value."""
    return build(sources(file=file, flags=flags, environment=environment), file=file)


def sources(
    *, file: Path | None = None, flags: Tree | None = None, environment: dict[str, str] | None = None
) -> dict[str, Tree]:
    """The values of each source, from low precedence to high."""
    return {
        "file": read_file(file) if file is not None else {},
        "environment": read_environment(environment),
        "flag": flags or {},
    }


def build(by_source: dict[str, Tree], *, file: Path | None = None) -> Settings:
    """Merge and validate. `file` is where the source "file" was read, for messages."""
    merged: Tree = {}
    for tree in by_source.values():
        for group, fields in tree.items():
            merged.setdefault(group, {}).update(fields)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        known = {group: fields_of(group) for group in GROUPS}
        lines = [
            describe(
                one["loc"], one["type"], one["msg"], one.get("ctx", {}), known, origin(one["loc"], by_source, file)
            )
            for one in error.errors()
        ]
        raise SettingsError("the settings are not valid:\n  " + "\n  ".join(lines)) from error


def origin(place: tuple[int | str, ...], by_source: dict[str, Tree], file: Path | None) -> str:
    """The origin of a value: the path of a file, or the name of a variable or an option; empty for a default."""
    group = str(place[0])
    for source, tree in reversed(by_source.items()):
        given = tree.get(group, {})
        name = place[1] if len(place) > 1 else next(iter(given), None) if group not in GROUPS else None
        if name in given:
            match source:
                case "file":
                    return str(file) if file is not None else source
                case "environment":
                    return variable_name(group, str(name))
                case "flag":
                    return flag_name(group, str(name))
                case _:
                    return source
    return ""
