"""Sources as a data set folder: looked at, brought into one form, written; stopped at any moment, it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from msseg.challenges.case_writer import CaseWriter
from msseg.challenges.challenge import Challenge, ConversionOptions, Pages
from msseg.challenges.form import Form, decide_form
from msseg.challenges.journal import Entry, Journal, read_journal
from msseg.challenges.source import Listing, Look, Source, look_at
from msseg.data.problems import FileError, Problem, problems_table
from msseg.data.raw import check_is_image_file
from msseg.errors import DatasetError, MssegError
from msseg.files import content_hash, value_hash, write_json
from msseg.parallel import map_cases
from msseg.progress import progress

DESCRIPTION = "dataset.json"

Result = TypeVar("Result")


@dataclass(frozen=True)
class ConversionReport:
    """What became of every case: `converted` now, `kept` from before; problems of severity error are cases left out."""

    folder: Path
    form: Form | None
    converted: int
    kept: int
    test: int
    problems: tuple[Problem, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every case is in the data set folder, and nothing else."""
        return self.form is not None and not any(problem.severity == "error" for problem in self.problems)

    def summary(self) -> str:
        """The table of problems, and one line of counts."""
        table = problems_table(self.problems)
        line = f"{self.folder}: " + ("nothing could be converted." if self.form is None else self._counts(self.form))
        return f"{table}\n{line}" if table else line

    def _counts(self, form: Form) -> str:
        errors = sum(problem.severity == "error" for problem in self.problems)
        labels = ", ".join(f"{name} {value}" for name, value in form.labels.items())
        kind = "objects by number" if form.instances else labels
        cases = f"{self.converted} cases converted, {self.kept} kept from before ({self.test} of them test cases)"
        return f"{cases}, {errors} errors; {' '.join(form.channels)} in {form.ending}; {kind}."


def convert(
    challenge: Challenge,
    source: Path,
    destination: Path,
    options: ConversionOptions | None = None,
    executor: Executor | None = None,
) -> ConversionReport:
    """Write a challenge's data as a data set folder in the layout of nnU-Net v2; its dataset.json comes last.

    A case that cannot be taken is a problem of the report, and the others go on. What an earlier run made of the same
    files is kept. Raises DatasetError for a source of another layout, for cases that do not go together, and for a
    destination that holds anything else.
    """
    options = options or ConversionOptions()
    return _convert(listed(challenge, source, options), Path(destination), options, executor)


def listed(challenge: Challenge, source: Path, options: ConversionOptions) -> Listing:
    """The cases of a challenge's folder; DatasetError where it is of another layout, or the challenge has no data."""
    if challenge.list_cases is None:
        raise DatasetError(f"{challenge.name}: has no conversion; expected a challenge such as dsb2018.")
    return challenge.list_cases(Path(source), options)


def _convert(
    listing: Listing, destination: Path, options: ConversionOptions, executor: Executor | None
) -> ConversionReport:
    _check_labels(listing)
    journal = read_journal(destination)
    sources, collisions = _without_collisions(listing.sources)
    look = partial(_look, instances=listing.instances, pages=listing.pages, form=listing.form)
    seen, unread = _each(look, sources, "looking at images", options, executor)
    problems = [*listing.problems, *collisions, *unread]
    if not seen:
        return ConversionReport(destination, None, 0, 0, 0, tuple(problems))
    looks = {source: found for source, (found, _) in seen.items() if found is not None}
    form = listing.form or decide_form(looks, listing.labels, listing.instances, listing.pages)
    keys = {source: value_hash([key, repr(form)]) for source, (_, key) in seen.items()}
    left = [source for source in seen if not journal.is_done(_key_name(source), keys[source])]
    if left:
        journal.begin()
        (destination / DESCRIPTION).unlink(missing_ok=True)
    writer = CaseWriter(destination, form, listing.read_image, listing.read_label, listing.find_page)
    failed = _write(writer, left, keys, journal, options, executor)
    done = [source for source in seen if journal.is_done(_key_name(source), keys[source])]
    problems += failed + journal.left_over([_key_name(source) for source in listing.sources])
    problems += [note for source in done for note in journal.entries[_key_name(source)].notes]
    if done:
        description = form.description(destination.resolve().name, _cases(done, test=False))
        write_json(destination / DESCRIPTION, {**description, **listing.extras})
    kept = _cases([source for source in done if source not in left])
    return ConversionReport(destination, form, _cases(done) - kept, kept, _cases(done, test=True), tuple(problems))


def _check_labels(listing: Listing) -> None:
    values = list(listing.labels.values())
    if 0 in values or len(set(values)) < len(values):
        raise DatasetError(f"labels {listing.labels}: expected a value other than 0 for each name, and none twice.")
    if listing.instances and len(values) != 1:
        raise DatasetError(f"labels {listing.labels}: expected one name, as the files number objects of one kind.")


def _cases(sources: Sequence[Source], test: bool | None = None) -> int:
    return sum(len(source.names) for source in sources if test in (None, source.is_test))


def _key_name(source: Source) -> str:
    """The name of a source in the journal; a test case may be called as a training case."""
    return f"{'imagesTs' if source.is_test else 'imagesTr'}/{source.name}"


def _without_collisions(sources: Sequence[Source]) -> tuple[list[Source], list[Problem]]:
    """The sources without those that would write the same files on one file system or another."""
    by_name: dict[tuple[bool, str], list[Source]] = {}
    for source in sources:
        for name in source.names:
            by_name.setdefault((source.is_test, name.casefold()), []).append(source)
    refused: dict[Source, Problem] = {}
    for group in by_name.values():
        for source in group if len(group) > 1 else []:
            files = ", ".join(sorted(str(other.image) for other in group if other is not source))
            found = f"the name of another case: {files}"
            remedy = "Rename one, as both would become the same file."
            refused[source] = Problem(source.name, str(source.image), found, "one image a name", remedy)
    return [source for source in sources if source not in refused], list(refused.values())


def _look(source: Source, instances: bool, pages: Pages, form: Form | None) -> tuple[Look | None, str]:
    """What a source holds, None where the form is known without it, and a hash of its files."""
    look = look_at(source, instances, pages) if form is None else None
    digest = _content(source)
    return look, value_hash([digest, source.facts]) if source.facts else digest


def _content(source: Source) -> str:
    """A hash of the files of a source; FileError for one that is not there."""
    for file in source.files:
        check_is_image_file(file)
    return content_hash(*source.files)


def _each(
    function: Callable[[Source], Result],
    sources: Sequence[Source],
    what: str,
    options: ConversionOptions,
    executor: Executor | None,
) -> tuple[dict[Source, Result], list[Problem]]:
    """The result of every source in the order of `sources`, and an error for each that could not be taken."""
    results: dict[Source, Result] = {}
    problems = []
    outcomes = map_cases(function, sources, options.workers, executor)
    for source, outcome in progress(outcomes, what, total=len(sources), quiet=options.quiet or not sources):
        if outcome.error is None:
            results[source] = outcome.value  # type: ignore[assignment]
        elif isinstance(outcome.error, MssegError):
            problems.append(_problem(source, outcome.error))
        else:
            raise outcome.error
    return {source: results[source] for source in sources if source in results}, problems


def _write(
    writer: CaseWriter,
    sources: Sequence[Source],
    keys: dict[Source, str],
    journal: Journal,
    options: ConversionOptions,
    executor: Executor | None,
) -> list[Problem]:
    """Convert the sources and set each down in the journal; an error for every one that failed."""
    problems = []
    outcomes = map_cases(writer, sources, options.workers, executor)
    for source, outcome in progress(outcomes, "converting", total=len(sources), quiet=options.quiet or not sources):
        if outcome.error is None:
            files = tuple(path.relative_to(writer.destination).as_posix() for path in writer.outputs(source))
            journal.add(_key_name(source), Entry(keys[source], files, tuple(outcome.value or ())))
        elif isinstance(outcome.error, MssegError):
            problems.append(_problem(source, outcome.error))
        else:
            raise outcome.error
    return problems


def _problem(source: Source, error: MssegError) -> Problem:
    if isinstance(error, FileError):
        return error.as_problem(source.name)
    return Problem(source.name, str(source.image), str(error), "", "")
