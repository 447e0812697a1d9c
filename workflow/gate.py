"""The checks of notebooks before the first one runs, of executed notebooks, and of the rendered book.

What a page must show follows from its notebook. A cell with alternative text (`mystnb.image.alt`) shows a picture. A
cell that ends in a table or another value shows it, unless its last line ends with a semicolon. A cell that prints
shows what it prints. The tag `optional-picture` marks a cell whose picture depends on the data.
"""

import ast
import os
import re
from pathlib import Path
from urllib.parse import unquote

from galaxynb.fingerprints import cell_python, code_cells, read_notebook

#: Tag of a cell that draws its picture only for some data, and otherwise prints a sentence.
OPTIONAL = "optional-picture"
_PICTURES = {"image/png", "image/jpeg", "image/svg+xml"}
#: Attributes, methods and functions whose value is a table, if an expression ends with them.
_TABLES = {"style", "hide", "DataFrame", "to_frame", "show()"}
#: What a kernel shows as text if it cannot draw a figure or a table. A figure without axes is never drawn.
_NOT_DRAWN = {
    "picture": re.compile(r"\[?<(Figure size(?!.* 0 Axes)|Axes|matplotlib\.)"),
    "table": re.compile(r"<pandas\."),
}
_AGAIN = "remove this file and run `make book` again"


def check_notebook(path, *, parameters=()):
    """Raise an error unless papermill and the book can use a notebook, whichever editor saved it.

    Parameters
    ----------
    path : str or os.PathLike
    parameters : iterable of str
        Names of the parameters that the workflow gives to the notebook.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no notebook of nbformat 4, is in another language, has code that is no Python, or does not set
        all of the parameters in its only cell with the tag ``parameters``.
    """
    notebook, name = read_notebook(path), os.fspath(path)
    about = notebook["metadata"]
    # papermill needs one of the two names, whichever kernel runs the notebook.
    language = about.get("language_info", {}).get("name") or about.get("kernelspec", {}).get("language")
    if language != "python":
        raise ValueError(
            f"the language of {name} is {language}, but python is needed: choose a Python kernel in the editor and save"
        )
    for cell in code_cells(notebook):
        try:
            ast.parse(cell_python(cell))
        except SyntaxError as error:
            number = notebook["cells"].index(cell) + 1
            raise ValueError(
                f"{name}, line {error.lineno} of cell {number}, is no Python ({error.msg}), but valid Python is "
                "needed: correct it and run again"
            ) from None
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell["metadata"].get("tags", ())]
    if len(tagged) != 1:
        raise ValueError(
            f"{name} has {len(tagged)} code cells with the tag parameters, but exactly one is needed: give the tag to "
            "the cell that sets the parameters"
        )
    added = [cell for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", ())]
    place = notebook["cells"].index(tagged[0]) + 1
    if added and added != notebook["cells"][place : place + 1]:
        raise ValueError(
            f"{name} holds a cell of parameters that papermill added, but not below the cell with the tag parameters, "
            "so the workflow's values would have no effect: remove it"
        )
    missing = sorted({*parameters} - assigned(cell_python(tagged[0])).keys())
    if missing:
        raise ValueError(
            f"{name} does not set {', '.join(missing)} in its cell with the tag parameters, but the workflow gives a "
            "value: add the line, as in the version in git"
        )


def assigned(source):
    """Return the syntax tree of the value of each name that Python code sets in a line of its own, by name."""
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            values[node.target.id] = node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
    return values


def check_executed(path):
    """Return an executed notebook, or raise an error unless it was executed to its end without an error.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a code cell has not run or holds an error output, or papermill recorded an exception.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing, but the book needs it: run `make book`")
    notebook = read_notebook(path)
    if notebook["metadata"].get("papermill", {}).get("exception"):
        raise ValueError(f"{path}: papermill recorded an exception, but the book needs all cells: {_AGAIN}")
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if any(output["output_type"] == "error" for output in cell.get("outputs", ())):
            raise ValueError(f"{path}: cell {number} holds an error output, but the book needs its result: {_AGAIN}")
        if cell.get("execution_count") is None:
            raise ValueError(f"{path}: cell {number} was not executed, but the book needs its result: {_AGAIN}")
    return notebook


def check_outputs(notebook, path):
    """Raise an error unless each cell of a page shows the picture, the table or the text that it must show.

    Parameters
    ----------
    notebook : dict
        From `book.with_current_prose`.
    path : str or os.PathLike
        File of the executed notebook, for the message.

    Raises
    ------
    ValueError
        If an output is missing or was not drawn.
    """
    for number, cell in enumerate(notebook["cells"], start=1):
        lost = cell["cell_type"] == "code" and _lost(cell)
        if lost:
            remedy = f"{_AGAIN}, without another backend of matplotlib" if lost == "picture" else _AGAIN
            begin = next(filter(None, map(str.strip, "".join(cell["source"]).splitlines())))
            raise ValueError(
                f"{path}: cell {number} of the page, which begins with `{begin}`, shows no {lost}, but the book needs"
                f" it: {remedy}"
            )


def _lost(cell):
    """Return which output of a cell is missing: picture, table, value or output (any kind), or None."""
    found = [output["data"] for output in cell["outputs"] if "data" in output]
    kinds = {kind for data in found for kind in data}
    wanted = _wanted(cell)
    for name, drawn in (("picture", _PICTURES), ("table", {"text/html"})):
        texts = ["".join(data["text/plain"]) for data in found if {*data} == {"text/plain"}]
        if not kinds & drawn and (wanted == name or any(map(_NOT_DRAWN[name].match, texts))):
            return name
    if wanted == "value" and not found:
        return wanted
    return "output" if wanted and not cell["outputs"] else None


def _wanted(cell):
    """Return what a cell shows whenever it runs, in the words of `_lost`, or None if it may show nothing."""
    source, about = cell_python(cell), cell["metadata"]
    if OPTIONAL in about.get("tags", ()):
        return "output"
    if "image" in about.get("mystnb", {}):  # its alternative text
        return "picture"
    statements = ast.parse(source).body
    if not statements:
        return None
    last = statements[-1].value if isinstance(statements[-1], ast.Expr) and source.rstrip()[-1] != ";" else None
    if _end(last) in _TABLES:
        return "table"
    # Other calls may return None.
    is_value = last and not isinstance(last, ast.Call | ast.Await | ast.Constant)
    if is_value or _end(last) == "round":
        return "value"
    return "output" if any(map(_says, statements)) else None


def _end(node):
    """Return the name at the end of an expression: hide for `table.style.hide()`, show() for `show(table)`."""
    called = node.func if isinstance(node, ast.Call) else node
    if isinstance(called, ast.Name):
        return f"{called.id}()" if called is not node else None
    return getattr(called, "attr", None)


def _says(statement):
    """Return whether a statement prints or displays something whenever it runs."""
    if isinstance(statement, ast.If):
        return all(any(map(_says, branch)) for branch in (statement.body, statement.orelse))
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and not call.keywords and _end(call) in ("print()", "display()")


def check_pictures(source, html):
    """Raise an error unless each page of the book shows all pictures of its source.

    Sphinx reports a missing picture of a Markdown page, but not one of a notebook.

    Parameters
    ----------
    source : pathlib.Path
        The sources of the book.
    html : pathlib.Path
        The rendered book.

    Raises
    ------
    ValueError
        If a page has fewer pictures than its source.
    """
    paths = [path for folder in ("notebooks", "book") for path in sorted(source.glob(f"{folder}/**/*"))]
    for path in (path for path in paths if path.suffix in (".ipynb", ".md")):
        page = html / path.relative_to(source).with_suffix(".html")
        if not page.is_file():
            continue  # the table of contents leaves it out
        places = [
            page.parent / unquote(name) for name in re.findall(r'<img [^>]*src="([^"]*)"', page.read_text("utf-8"))
        ]
        shown, needed = sum(place.is_file() and place.stat().st_size > 0 for place in places), _pictures(path)
        if shown < needed:
            raise ValueError(f"{page} shows {shown} pictures, but its source has {needed}: run `make book` again")


def _pictures(path):
    """Count the pictures of a page's source."""
    if path.suffix == ".md":
        return len(re.findall(r"^[`:]{3,}\{(?:figure|image)\}", path.read_text(encoding="utf-8"), re.MULTILINE))
    cells = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    shown = [cell for cell in cells if not {"remove-cell", "remove-output"} & {*cell["metadata"].get("tags", ())}]
    return sum(bool(_PICTURES & {*output.get("data", ())}) for cell in shown for output in cell["outputs"])
