"""Small notebooks like those that papermill executed."""

import nbformat


def write_notebook(path, *cells, **metadata):
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    nbformat.write(notebook, path)
    return path


def code(source, count=1, outputs=(), **metadata):
    return nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def shown(kind, value, **others):
    return nbformat.v4.new_output("execute_result", {kind: value, **others}, execution_count=1)


def error(name="ValueError", value="no such galaxy"):
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[])


def with_cells(notebook, change):
    return notebook | {"cells": [change(dict(cell)) for cell in notebook["cells"]]}


def without(*names):
    return lambda cell: {name: value for name, value in cell.items() if name not in names}


def _lines(ends):
    def change(cell):
        return cell | {"source": "".join(cell["source"]).replace("\n", ends)}

    return lambda notebook: with_cells(notebook, change)


def _metadata(notebook):
    """Add what JupyterLab, VS Code and Colab leave in metadata."""
    cell = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}, "vscode": {"languageId": "python"}}
    cell |= {"collapsed": True, "scrolled": False, "colab": {"base_uri": "x"}, "outputId": "1", "jupyter": {}}
    about = {"colab": {"provenance": []}, "widgets": {"application/vnd.jupyter.widget-state+json": {}}, "title": "Mine"}
    about |= {"toc": {}, "mystnb": 3, "authors": [{"name": "A"}], "celltoolbar": "Tags", "vscode": {}}
    changed = with_cells(notebook, lambda one: one | {"metadata": one["metadata"] | cell})
    return changed | {"metadata": notebook["metadata"] | about}


def _more_cells(*cells):
    return lambda notebook: notebook | {"cells": [*notebook["cells"], *cells]}


def _executed(notebook):
    """Copy an executed notebook over its source."""
    injected = {"metadata": {"tags": ["injected-parameters"]}, "source": "n = 9", "outputs": [], "execution_count": 2}
    title, parameters, *rest = notebook["cells"]
    cells = [title, parameters, {"cell_type": "code", "id": "injected"} | injected, *rest]
    ran = {"outputs": [{"output_type": "stream", "name": "stdout", "text": "old"}], "execution_count": 7}
    changed = with_cells(notebook | {"cells": cells}, lambda one: one | (ran if one["cell_type"] == "code" else {}))
    return changed | {"metadata": notebook["metadata"] | {"papermill": {"exception": True, "parameters": {"n": 9}}}}


#: What editors make of a notebook without a change of its code, by what they do.
RESAVED = {
    "nbformat 4.0": lambda notebook: with_cells(notebook, without("id")) | {"nbformat_minor": 0},
    "nbformat 4.4": lambda notebook: with_cells(notebook, without("id")) | {"nbformat_minor": 4},
    "4.5 without ids": lambda notebook: with_cells(notebook, without("id")),
    "4.5 with one id": lambda notebook: with_cells(notebook, lambda cell: cell | {"id": "same"}),
    "source in one text": _lines("\n"),
    "carriage returns": _lines("\r\n"),
    "metadata": _metadata,
    "another kernel": lambda notebook: notebook | {"metadata": {"kernelspec": {"name": "ir", "language": "python"}}},
    "no kernel": lambda notebook: notebook | {"metadata": {"language_info": {"name": "python"}}},
    "no outputs": lambda notebook: with_cells(notebook, without("outputs", "execution_count")),
    "empty cells": _more_cells(code("", None), code("# later", None), nbformat.v4.new_markdown_cell("")),
    "executed": _executed,
}
