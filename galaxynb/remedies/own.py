"""A remedy of the user's own: any callable on arrays, from a Python file."""

import importlib.util
import inspect
import sys
import time

from galaxynb.remedies.remedy import LEARNS_FROM, NOTHING, Remedy
from galaxynb.remedies.rows import OWN, parse_place

__all__ = ["load_remedy"]


class _Own(Remedy):
    """A callable as a remedy that restores images, or one that classifies them."""

    name, family = OWN, "Yours"

    def __init__(self, called, title, learns_from):
        super().__init__()
        self._called, self.title, self.learns_from = called, title, learns_from
        self.__doc__ = called.__doc__

    def fit(self, given):
        """Call the ``fit`` of the user's object, if it has one."""
        if hasattr(self._called, "fit"):
            began = time.perf_counter()
            self._called.fit(given)
            self.seconds = time.perf_counter() - began
        self.parameters = getattr(self._called, "parameters", 0)
        self.chosen = dict(getattr(self._called, "chosen", {}))
        for name in ("restore", "classify"):
            if getattr(self._called, name, None) is not None:
                setattr(self, name, getattr(self._called, name))
                return
        self.restore = self._called

    def adapt(self, images):
        """Call the ``adapt`` of the user's object, if it has one."""
        if hasattr(self._called, "adapt"):
            self._called.adapt(images)


def load_remedy(text):
    """Load a remedy from ``path/to/file.py:name``.

    Parameters
    ----------
    text : str
        The file and the name of a callable that maps images to restored images, or of a class or an object with a
        method ``restore`` or ``classify``. It may have ``fit``, ``title`` and ``learns_from``, as `Remedy` describes.

    Returns
    -------
    Remedy

    Raises
    ------
    ValueError
        If the file cannot be imported, does not define the name, or its object is not a remedy.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "mine.py"
    ...     _ = path.write_text("def darker(images): return images / 2")
    ...     load_remedy(f"{path}:darker").title
    'darker'
    """
    path, name = parse_place(text)
    spec = importlib.util.spec_from_file_location(f"own_remedy_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import others beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be imported ({type(error).__name__}: {error}), but it must define {name}: correct it"
        ) from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        raise ValueError(f"{path} defines no {name}, but the remedy needs it: correct the name")
    found = getattr(module, name)
    if inspect.isclass(found):
        found = found()
    if not callable(found) and all(getattr(found, method, None) is None for method in ("restore", "classify")):
        raise ValueError(
            f"{name} of {path} is {type(found).__name__}, but a callable, or an object with restore or classify, is"
            " needed: change it"
        )
    learns_from = getattr(found, "learns_from", NOTHING)
    if learns_from not in LEARNS_FROM:
        raise ValueError(
            f"learns_from of {name} is {learns_from!r}, but one of {', '.join(LEARNS_FROM)} is needed: change it"
        )
    return _Own(found, getattr(found, "title", None) or name, learns_from)
