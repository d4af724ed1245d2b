"""Notebooks as git stores them: without outputs, counts and whatever an editor adds; the clean filter of a checkout.

``make setup`` names ``python -m tests.stripping`` as the filter of ``notebooks/*.ipynb`` (``.gitattributes``) in this
checkout's own git settings, so a notebook that was opened and run here is no change. What a person writes, such as
another parameter, stays one.
"""

from __future__ import annotations

import sys

import nbformat
from nbstripout import strip_output

# an editor writes the name of its own environment and Python's version here
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEPT = ("tags",)  # of the metadata of a cell; editors add times, folds and slides


def stored(text: str) -> str:
    """Return the text of a notebook as git stores it, in the form in which Jupyter writes files.

    Raises
    ------
    ValueError
        If the text is no notebook of Jupyter's format 4.
    """
    try:
        notebook = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        stripped = strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
        for cell in stripped.cells:
            cell.metadata = {name: cell.metadata[name] for name in KEPT if name in cell.metadata}
        if stripped.metadata.get("kernelspec", {}).get("name") == KERNEL["name"]:
            stripped.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
        return nbformat.writes(stripped, version=nbformat.NO_CONVERT) + "\n"
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"This is no notebook of Jupyter's format 4: {error!r}.") from error


def main() -> None:
    """Read a notebook from the standard input and write it as git stores it; what is no notebook stays as it is."""
    given = sys.stdin.buffer.read()
    try:
        kept = stored(given.decode("utf-8")).encode("utf-8")
    except ValueError as error:
        print(f"git stores this file as it is. {error}", file=sys.stderr)
        kept = given
    sys.stdout.buffer.write(kept)


if __name__ == "__main__":
    main()
