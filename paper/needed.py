"""Which files of a results folder the paper's text reads. The workflow asks before any job starts."""

from paper.artefacts import GENERIC, OWN, Artefact, read_artefacts
from paper.artefacts import NEEDED as IN_TEXT


def _read(artefact: Artefact) -> str:
    """The file that the text reads: a figure's PDF, a table's numbers, or what a person reads of a generic one."""
    suffix = ".pdf" if artefact.kind == "figure" else ".md" if artefact.text == GENERIC else ".csv"
    return artefact.stem + suffix


NEEDED = ("claims.json", "claims_time.json", *(_read(each) for each in read_artefacts() if each.text == IN_TEXT))
OPTIONAL = tuple(_read(each) for each in read_artefacts() if each.text in (OWN, GENERIC))
