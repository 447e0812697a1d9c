"""What a stage depends on: the code of its notebook, and the modules of galaxynb that it uses."""

import ast
import json
from pathlib import Path

from galaxynb.files import written_aside

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "galaxynb"


def modules_used(notebook):
    """List the package's source files that a notebook imports, directly or through each other.

    Returns paths relative to the repository, sorted; data files that a module reads count with it.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found, waiting = set(), _imports(code)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _imports((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    paths = {PACKAGE / f"{name}.py" for name in found} | {PACKAGE / "__init__.py"}
    for path in list(paths):
        # A data file counts with the module that names it.
        text = path.read_text(encoding="utf-8")
        paths |= {table for table in PACKAGE.glob("*.csv") if table.name in text}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def code_of(notebook):
    """Return what of a notebook decides its results, its code cells, as JSON text."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    code = [
        {key: cell.get(key) for key in ("id", "metadata", "source")} for cell in cells if cell["cell_type"] == "code"
    ]
    return json.dumps(code, indent=1, sort_keys=True) + "\n"


def write_if_changed(path, text):
    """Write a text file unless it holds this text already."""
    path = Path(path)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with written_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")


def _imports(code):
    """Names of galaxynb's modules imported anywhere in `code`."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "galaxynb":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("galaxynb."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("galaxynb.")}
    return {name for name in names if (PACKAGE / f"{name}.py").is_file()}
