"""Which code a notebook or module uses, and a fingerprint of what that code does.

A stage runs again, and a training starts anew, when the fingerprint of the code that it uses changes. Docstrings,
comments and formatting are left out of fingerprints, so editing prose repeats no computation.
"""

import ast
import contextlib
import hashlib
import json
from pathlib import Path

__all__ = ["cell_code", "code_digest", "code_used", "file_fingerprint", "files_used", "notebook_code"]

_PACKAGE = Path(__file__).resolve().parent
#: Modules that decide what runs again, never what comes out. `stages` orders records for display, so that adding a
#: stage must not train the networks of the earlier ones anew.
_LEFT_OUT = ("stages.py", "fingerprints.py")


def files_used(start, *, package=_PACKAGE):
    """List the package's files that a notebook, script or module uses, directly or through each other.

    Imports inside functions count, and so do the ``__init__.py`` of each package on the way, the data files that a
    module names, and `start` itself where it is a module of the package.

    Parameters
    ----------
    start : str or os.PathLike
        A notebook or a Python file.
    package : str or os.PathLike, optional
        The folder of the package. By default that of galaxynb.

    Returns
    -------
    list of str
        Paths relative to the package's parent folder, sorted.
    """
    start, package = Path(start).resolve(), Path(package).resolve()
    tree = _tree(start)
    waiting, found = _imported(tree, start, package), set()
    if start.is_relative_to(package):
        waiting.add(start)
    while waiting:
        path = waiting.pop()
        if path in found or path in [package / name for name in _LEFT_OUT]:
            continue
        found.add(path)
        tree = _tree(path)
        waiting |= _imported(tree, path, package) | _packages(path, package)
        found |= _data_files(tree, package)
    return sorted(path.relative_to(package.parent).as_posix() for path in found)


def code_used(start, *, package=_PACKAGE):
    """Return the fingerprint of each of the package's files that `start` uses.

    Parameters
    ----------
    start, package
        As for `files_used`.

    Returns
    -------
    dict of str
        64 hexadecimal digits by the file's path. Those of a module do not change with its docstrings, comments and
        formatting; those of a data file change with each byte.
    """
    parent = Path(package).resolve().parent
    return {name: file_fingerprint(parent / name) for name in files_used(start, package=package)}


def code_digest(*modules, package=_PACKAGE):
    """Hash all code of the package that some of its modules use.

    Parameters
    ----------
    *modules : str
        Dotted names within the package, such as ``noise`` or ``networks.training``.
    package : str or os.PathLike, optional
        The folder of the package. By default that of galaxynb.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If the package has no such module.

    Examples
    --------
    >>> code_digest("noise") == code_digest("noise")
    True
    """
    used = {}
    for name in modules:
        path = _module(name.split("."), Path(package).resolve())
        if path is None:
            raise ValueError(
                f"module is {name!r}, but a module of {Path(package).name} is needed: give its dotted name"
            )
        used |= code_used(path, package=package)
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def file_fingerprint(path):
    """Return the fingerprint of one Python file, without docstrings and comments, or of the bytes of another file.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    path = Path(path)
    content = _without_docstrings(_tree(path)).encode() if path.suffix == ".py" else path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def notebook_code(notebook):
    """Return what decides the results of a notebook: the code of its cells, and which of them takes parameters.

    Parameters
    ----------
    notebook : str or os.PathLike

    Returns
    -------
    list of str
        One text per code cell. Comments and all other metadata are left out: editors write metadata as they like.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return [cell_code(cell) for cell in cells if cell["cell_type"] == "code"]


def cell_code(cell):
    """Return what a code cell does, as text without comments.

    Parameters
    ----------
    cell : dict
        As in the notebook's JSON.

    Returns
    -------
    str

    Examples
    --------
    >>> cell_code({"source": "x = ( 1 + 2 )  # three", "metadata": {"tags": ["hide-input"]}})
    'x = 1 + 2'
    """
    source = "".join(cell["source"])
    # A cell with a magic of IPython's, say, counts as it is written.
    with contextlib.suppress(SyntaxError):
        source = _without_docstrings(ast.parse(source))
    return ("# parameters\n" if "parameters" in cell["metadata"].get("tags", ()) else "") + source


def _tree(path):
    """Parse a Python file, or all code of a notebook as one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return ast.parse(text, filename=str(path))


def _imported(tree, path, package):
    """Return the paths of the package's modules that the code of the file `path` imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, path, package)
            # What is imported from a package may be a module of it or something that its __init__ defines.
            names = [base, *([*base, alias.name] for alias in node.names)] if base is not None else []
        else:
            continue
        for name in names:
            if name[:1] == [package.name]:
                found.add(_module(name[1:], package))
                # Of `import galaxynb.a.b` the packages on the way are imported too.
                found |= {_module(name[1:end], package) for end in range(1, len(name))}
    return found - {None}


def _base(node, path, package):
    """Return the dotted name that `from ... import` names, as a list with the package first; None outside it."""
    parts = node.module.split(".") if node.module else []
    if node.level == 0:
        return parts
    if not path.is_relative_to(package):
        return None
    # One dot is the folder that the file lies in, each further dot the folder above.
    folder = path.relative_to(package.parent).parent.parts
    return [*folder[: len(folder) - node.level + 1], *parts]


def _module(name, package):
    """Return the file of a module or package, from its dotted name within `package` as a list; None without one."""
    path = package.joinpath(*name)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    module = path.with_name(f"{path.name}.py")
    return module if name and module.is_file() else None


def _packages(path, package):
    """Return the `__init__.py` of each package that the file `path` lies in."""
    folders = [folder for folder in path.parents if folder.is_relative_to(package)]
    return {folder / "__init__.py" for folder in folders if (folder / "__init__.py").is_file()}


def _data_files(tree, package):
    """Return the package's files other than modules that are named in a text of the code."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = [path for path in package.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    return {path for path in files if any(text.endswith(path.name) for text in texts)}


def _without_docstrings(tree):
    """Return code as text in one formatting, without comments and without texts that stand alone, as docstrings do."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                kept = [statement for statement in statements if not _is_text(statement)]
                # A function whose docstring is all there is needs a body to be written out.
                setattr(node, name, kept or ([ast.Pass()] if statements and not isinstance(node, ast.Module) else []))
    return ast.unparse(tree)


def _is_text(statement):
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
