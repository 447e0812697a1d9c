"""Small notebooks like those that papermill executed."""

import nbformat


def write_notebook(path, *cells, **metadata):
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    nbformat.write(notebook, path)
    return path


def code(source, count=1, outputs=()):
    return nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs))


def error(name="ValueError", value="no such galaxy"):
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[])
