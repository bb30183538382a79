"""Holds narrowed engines to the pictures that exact arithmetic makes: below a floor they are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from export.component.build import Make
from export.component.schemes import SCHEMES
from export.engines import Engine
from export.errors import BadInputError
from export.rehearsal import OWN, Picture, files
from export.report import Report
from export.trial import Known, Trial


@dataclass
class Judge:
    """Of one export. `samples`: an empty folder for what is calibrated on."""

    makes: Sequence[Make]
    trial: Trial
    engine: Engine
    caches: Path
    samples: Path
    _exact: list[Picture] = field(default_factory=list)

    @property
    def narrowed(self) -> list[Make]:
        return [make for make in self.makes if make.precision in SCHEMES]

    def require_able(self) -> None:
        """Raises BadInputError where a component has nothing to narrow, a picture cannot be edited, pictures cannot be
        compared, or are given for nothing."""
        if self.trial.pictures != OWN and not self.narrowed:
            raise BadInputError(
                f"--calibration {self.trial.pictures}: nothing is narrowed: name {', '.join(SCHEMES)} "
                "with --precision, or leave the flag out"
            )
        self.trial.require_narrowed(self.narrowed, self.engine)
        if self.narrowed:
            self.trial.require_readable()
        if self.narrowed and not self.engine.runs_here() and not self.trial.accept:
            raise BadInputError(
                f"--precision {self.narrowed[0].precision}: this machine cannot run {self.engine.name} engines, so "
                "that no pictures can be compared with fp32: give --accept-quality, or export on that GPU"
            )

    def prepare(self, missing: Sequence[Make], report: Report) -> None:
        """Makes the exact edits, where a component that is missing is calibrated on them or pictures are compared."""
        calibrated = [make.component.name for make in missing if _calibrates(make)]
        if not self.narrowed or not (calibrated or self._compares()):
            return
        report.say("making the edits that narrowed engines are calibrated on and compared with, in fp32")
        self._exact = self.trial.exact(self.samples, calibrated, report)

    def __call__(self, made: Mapping[str, Path], report: Report) -> None:
        """Compares the pictures. Raises ExportError below the floor."""
        if not self.narrowed or not self.engine.runs_here():
            return
        likeness = self._known().read()
        if likeness is None:
            likeness = self.trial.compare(self.engine, made, self.makes, self._exact, report)
            self._known().write(likeness)
        report.likeness = likeness
        if not self.trial.accept:
            likeness.require()

    def _compares(self) -> bool:
        return self.engine.runs_here() and self._known().read() is None

    def _known(self) -> Known:
        return Known.of(self.caches, self.makes, files(self.trial.pictures), self.trial.settings())


def _calibrates(make: Make) -> bool:
    scheme = SCHEMES.get(make.precision)
    return scheme is not None and scheme.activations
