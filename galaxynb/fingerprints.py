"""Read notebooks, list the code that a notebook or module uses, and fingerprint what that code does.

A stage runs again, and a training starts anew, when the fingerprint of the code that it uses changes. Docstrings,
comments and formatting are left out of fingerprints, so editing prose repeats no computation.
"""

import ast
import contextlib
import hashlib
import json
import re
from pathlib import Path

__all__ = [
    "cell_code",
    "cell_python",
    "code_cells",
    "code_digest",
    "code_used",
    "file_fingerprint",
    "files_used",
    "notebook_code",
    "read_notebook",
]

_PACKAGE = Path(__file__).resolve().parent
#: Modules that have no influence on results. If `stages` counted, adding a stage would repeat all earlier trainings.
_LEFT_OUT = ("stages.py", "fingerprints.py")
#: A line that IPython reads as a command, such as `%matplotlib inline` or `!ls`.
_COMMAND = re.compile(r"^([ \t]*)[%!].*", re.MULTILINE)
#: A line without code.
_NO_CODE = re.compile(r"\s*(#.*)?")
_SAVE_AGAIN = "open it in JupyterLab and save it, or take it from git again"


def files_used(start, *, package=_PACKAGE):
    """List the package's files that a notebook, script or module uses, directly or through other modules.

    The list includes imports inside functions, the ``__init__.py`` of each package that an import passes through, and
    the data files that a module names. It includes `start` if that is a module of the package.

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
    waiting, found, texts = _imported(tree, start, package), set(), set()
    if start.is_relative_to(package):
        waiting.add(start)
    while waiting:
        path = waiting.pop()
        if path in found or path in [package / name for name in _LEFT_OUT]:
            continue
        found.add(path)
        tree = _tree(path)
        waiting |= _imported(tree, path, package) | _packages(path, package)
        texts |= _texts(tree)
    data = {path for path in package.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    found |= {path for path in data if any(text.endswith(path.name) for text in texts)}
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
        Fingerprint, of 64 hexadecimal digits, by the path of the file. The fingerprint of a module leaves out
        docstrings, comments and formatting. The fingerprint of a data file covers every byte.
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
    """Return the fingerprint of a file: of its code if it is a Python file, otherwise of its bytes.

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


def read_notebook(path):
    """Read a notebook of the format's version 4, as any editor saves it.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    dict
        The notebook. Each cell has a ``cell_type``, ``metadata`` and a ``source``, which is a str without carriage
        returns. Ids, outputs and execution counts may be missing.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no notebook of version 4.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        notebook = json.loads(text)
    except ValueError as error:
        if not isinstance(error, UnicodeDecodeError) and re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
            raise ValueError(
                f"{path} holds the marks of an unfinished git merge, but one version is needed: choose one, for example"
                f" with `git checkout --ours {path}`"
            ) from None
        raise ValueError(f"{path} is no JSON ({error}), but a notebook is needed: {_SAVE_AGAIN}") from None
    version = notebook.get("nbformat") if isinstance(notebook, dict) else None
    if version != 4:
        raise ValueError(f"{path} has nbformat {version}, but nbformat 4 is needed: {_SAVE_AGAIN}")
    kinds = {"cell_type": str, "source": (str, list), "metadata": dict}
    cells = notebook.get("cells")
    if not isinstance(cells, list) or not all(
        isinstance(cell, dict) and isinstance(cell.get(name), kind) for cell in cells for name, kind in kinds.items()
    ):
        raise ValueError(
            f"{path} holds cells without {', '.join(kinds)}, but nbformat 4 needs them in each cell: {_SAVE_AGAIN}"
        )
    sources = ("".join(cell["source"]).replace("\r\n", "\n") for cell in cells)
    cells = [cell | {"source": source} for cell, source in zip(cells, sources, strict=True)]
    return {"metadata": {}} | notebook | {"cells": cells}


def code_cells(notebook):
    """List the code cells that decide the results of a notebook.

    Parameters
    ----------
    notebook : dict
        From `read_notebook`.

    Returns
    -------
    list of dict
        The code cells in their order. Cells without code, which editors add, are left out. The cell of parameters that
        papermill adds is left out too, because papermill replaces it.
    """
    return [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "injected-parameters" not in cell["metadata"].get("tags", ())
        and not all(_NO_CODE.fullmatch(line) for line in "".join(cell["source"]).splitlines())
    ]


def notebook_code(notebook):
    """Return the parts of a notebook that decide its results, as text without comments.

    Parameters
    ----------
    notebook : str or os.PathLike

    Returns
    -------
    list of str
        One text for each of `code_cells`, from `cell_code`. Metadata other than the tag ``parameters`` are left out,
        because editors change them.

    Raises
    ------
    ValueError
        As for `read_notebook`.
    """
    return [cell_code(cell) for cell in code_cells(read_notebook(notebook))]


def cell_code(cell):
    """Return the code of a cell as text in one formatting, without comments and docstrings.

    Parameters
    ----------
    cell : dict
        As in the notebook's JSON.

    Returns
    -------
    str
        The text of the cell with the tag ``parameters`` begins with the line ``# parameters``.

    Examples
    --------
    >>> cell_code({"source": "x = ( 1 + 2 )  # three", "metadata": {"tags": ["hide-input"]}})
    'x = 1 + 2'
    """
    source = "".join(cell["source"])
    # A cell that is not plain Python, such as one with an IPython magic, counts as it is written.
    with contextlib.suppress(SyntaxError):
        source = _without_docstrings(ast.parse(source))
    return ("# parameters\n" if "parameters" in cell["metadata"].get("tags", ()) else "") + source


def cell_python(cell):
    r"""Return the code of a cell as Python, without the commands of IPython.

    Parameters
    ----------
    cell : dict
        As in the notebook's JSON.

    Returns
    -------
    str
        The code itself if it is Python. Otherwise, ``pass`` replaces each line that begins with ``%`` or ``!``.

    Examples
    --------
    >>> cell_python({"source": ["%matplotlib inline\n", "x = 1"]})
    'pass\nx = 1'
    """
    source = "".join(cell["source"])
    try:
        ast.parse(source)
    except SyntaxError:
        return _COMMAND.sub(r"\1pass", source)
    return source


def _tree(path):
    """Parse a Python file, or the joined code cells of a notebook."""
    if path.suffix == ".ipynb":
        text = "\n".join(cell_python(cell) for cell in code_cells(read_notebook(path)))
    else:
        text = path.read_text(encoding="utf-8")
    return ast.parse(text, filename=str(path))


def _imported(tree, path, package):
    """Return the paths of the package's modules that the code of the file `path` imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, path, package)
            # The imported name may be a module of the package or a name that its __init__ defines.
            names = [base, *([*base, alias.name] for alias in node.names)] if base is not None else []
        else:
            continue
        for name in names:
            if name[:1] == [package.name]:
                found.add(_module(name[1:], package))
                # `import galaxynb.a.b` also imports galaxynb and galaxynb.a.
                found |= {_module(name[1:end], package) for end in range(1, len(name))}
    return found - {None}


def _base(node, path, package):
    """Return the parts of the absolute name in `from NAME import ...`; None for a relative name outside the package."""
    parts = node.module.split(".") if node.module else []
    if node.level == 0:
        return parts
    if not path.is_relative_to(package):
        return None
    # One dot stands for the folder of the file, and each further dot for one folder up.
    folder = path.relative_to(package.parent).parent.parts
    return [*folder[: len(folder) - node.level + 1], *parts]


def _module(name, package):
    """Return the file of a module or package from the parts of its name within `package`; None if there is none."""
    path = package.joinpath(*name)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    module = path.with_name(f"{path.name}.py")
    return module if name and module.is_file() else None


def _packages(path, package):
    """Return the `__init__.py` of each package that the file `path` lies in."""
    folders = [folder for folder in path.parents if folder.is_relative_to(package)]
    return {folder / "__init__.py" for folder in folders if (folder / "__init__.py").is_file()}


def _texts(tree):
    """Return the strings of the code. A data file counts as used if a string ends with its name."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _without_docstrings(tree):
    """Return code as text in one formatting, without comments, docstrings and other strings that stand alone."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                kept = [statement for statement in statements if not _is_text(statement)]
                # Without its docstring, a function may have no statement left, but it needs one.
                setattr(node, name, kept or ([ast.Pass()] if statements and not isinstance(node, ast.Module) else []))
    return ast.unparse(tree)


def _is_text(statement):
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
