"""What an earlier conversion into the same folder has done: one line a source, added as each is finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from msseg.data.problems import Problem
from msseg.errors import DatasetError

JOURNAL = "conversion.jsonl"


@dataclass(frozen=True)
class Entry:
    """A source that was converted: a hash of its files and of the form, what came of it, and the notes on it."""

    key: str
    files: tuple[str, ...]
    notes: tuple[Problem, ...] = ()


@dataclass
class Journal:
    """The entries of a data set folder by source; `add` writes one down at once."""

    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    def is_done(self, source: str, key: str) -> bool:
        """Whether that very source was converted into that very form, and its files are there."""
        entry = self.entries.get(source)
        return entry is not None and entry.key == key and all((self.folder / file).exists() for file in entry.files)

    def begin(self) -> None:
        """Claim the folder, so that what a run leaves that is killed before its first entry is known as its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / JOURNAL).touch()

    def add(self, source: str, entry: Entry) -> None:
        """Set down that a source is converted."""
        self.entries[source] = entry
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as stream:
            # The line break comes first, so that a line that was cut off does not spoil the next.
            stream.write("\n" + json.dumps({"source": source, **asdict(entry)}))

    def left_over(self, sources: Sequence[str]) -> list[Problem]:
        """An error for every source of before that is there no more, as its files would be taken for cases."""
        gone = sorted(self.entries.keys() - set(sources))
        problems = []
        for source in gone:
            files = [file for file in self.entries[source].files if (self.folder / file).exists()]
            if files:
                remedy = "Delete " + " and ".join(files) + ", or convert into a new folder."
                found = "files of a case that the source no longer has"
                problems.append(Problem(source, str(self.folder / files[0]), found, "cases of the source", remedy))
        return problems


def read_journal(folder: Path) -> Journal:
    """The journal of a folder, empty where it is new; a line that was cut off is left out.

    Raises DatasetError for a folder that holds files and no journal.
    """
    path = folder / JOURNAL
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(
                f"{folder}: found files that msseg_convert did not write, expected a new or empty folder. Name another."
            )
        return Journal(folder)
    entries = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        read = _entry(line)
        if read is not None:
            entries[read[0]] = read[1]
    return Journal(folder, entries)


def _entry(line: str) -> tuple[str, Entry] | None:
    try:
        value = json.loads(line)
        notes = tuple(Problem(**note) for note in value["notes"])
        return str(value["source"]), Entry(str(value["key"]), tuple(map(str, value["files"])), notes)
    except (ValueError, KeyError, TypeError):
        return None
