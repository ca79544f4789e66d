"""Finds what `module:attribute` names. Standard library only: workers load their app with it."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Final

from kstream.errors import AppLoadError

_EXAMPLE: Final = "services.flights.app:app"
_KSTREAM: Final = str(Path(__file__).parent.parent) + os.sep


def load_target(target: str) -> object:
    """The object that `target` names, imported with the current directory in front of the path.

    Raises:
        AppLoadError: the form is wrong, there is no such module or attribute, or the module fails when imported; one
            line. In the last case `__cause__` is the module's own error.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise AppLoadError(f"{target!r} is not of the form MODULE:ATTRIBUTE, such as {_EXAMPLE}")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        dotted = module_name.removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
        raise AppLoadError(f"{module_name!r} is a file, not a module: write {dotted}:{path}")
    found: object = load_module(module_name)
    at = module_name
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppLoadError(f"{at} has no {name!r}{_near(name, dir(found))}") from None
        at = f"{at}.{name}"
    return found


def load_module(name: str) -> ModuleType:
    """A module, imported with the current directory in front of the path. Raises AppLoadError, as `load_target`."""
    global _loading
    here, outer = os.getcwd(), _loading
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        _loading = name
        return _import(name, here)
    finally:
        _loading = outer


_loading: str | None = None


def refuse_while_loading(what: str) -> None:
    """Raises AppLoadError when a module is being loaded as an app: then `what` would begin anew in every worker."""
    if _loading is not None:
        raise AppLoadError(f'{what} is called when {_loading} is imported: put it under `if __name__ == "__main__":`')


def _import(name: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise AppLoadError(_failed(name, error)) from error
        parent = error.name.rpartition(".")[0]
        hint = _near(error.name, _modules(parent))
        raise AppLoadError(f"no module named {error.name!r} in {here} or among the installed ones{hint}") from None
    except AppLoadError as error:  # it tried to run the app
        raise AppLoadError(f"{_place(error) or name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise AppLoadError(_failed(name, error)) from error


def _failed(module: str, error: BaseException) -> str:
    """One line: where in the user's code the import went wrong, and how."""
    if isinstance(error, SyntaxError) and error.filename:
        where = _short(f"{error.filename}:{error.lineno}")
        return f"{module} cannot be imported: {where}: {_what(error, error.msg)} (--debug shows the traceback)"
    return f"{module} cannot be imported: {told(error, module)} (--debug shows the traceback)"


def told(error: BaseException, otherwise: str = "") -> str:
    """One line: where in the user's code it was raised (or `otherwise`), its class and its text."""
    where = _place(error) or otherwise
    what = _what(error, " ".join(str(error).split()))
    return f"{where}: {what}" if where else what


def _what(error: BaseException, text: str) -> str:
    return type(error).__name__ + (f": {text}" if text else "")


def _place(error: BaseException) -> str | None:
    """File and line of the user's code that is nearest to the error; that of a library where there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    theirs = [frame for frame in frames if not _is_library(frame.filename)] or frames
    return _short(f"{theirs[-1].filename}:{theirs[-1].lineno}") if theirs else None


def _short(place: str) -> str:
    return place.removeprefix(os.getcwd() + os.sep)


def _is_library(filename: str) -> bool:
    return (
        filename.startswith(_KSTREAM)
        or f"{os.sep}site-packages{os.sep}" in filename
        or filename.startswith(os.path.dirname(os.__file__) + os.sep)
    )


def _modules(package: str) -> list[str]:
    """The modules of a package, or those in the current directory."""
    if package:
        paths = getattr(sys.modules.get(package), "__path__", None)
        return [] if paths is None else [f"{package}.{one.name}" for one in pkgutil.iter_modules(paths)]
    return [one.name for one in pkgutil.iter_modules([os.getcwd()])]


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, [one for one in names if not one.startswith("_")], n=2)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
