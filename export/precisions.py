"""Which precision each component's engine gets: `--precision`, the family's order, what the engine runs natively."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from export.component.schemes import SCHEMES, Scheme
from export.engines import Engine
from export.errors import BadInputError
from families.interface import Component

AUTO = "auto"
NAMED = re.compile(r"(\w+)=(\w+)")


@dataclass(frozen=True)
class Precisions:
    """`common` is for all components whose family allows it; `named` for single ones, allowed or not."""

    common: str = AUTO
    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, engine: Engine) -> "Precisions":
        """From `--precision`: `auto`, a precision, or both with `COMPONENT=PRECISION`, separated by commas.

        Raises BadInputError naming what the engine kind does not compile.
        """
        common, named = [], dict[str, str]()
        for part in text.split(","):
            single = NAMED.fullmatch(part)
            if single and single[1] in named:
                raise BadInputError(f"--precision {text} has {single[1]} twice")
            if single:
                named[single[1]] = single[2]
            else:
                common.append(part)
        for precision in (*common, *named.values()):
            if precision not in (AUTO, *engine.precisions):
                known = ", ".join(engine.precisions)
                raise BadInputError(f"--precision for {engine.name} is auto or one of {known}, and not {precision!r}")
        if len(common) > 1:
            raise BadInputError(f"--precision {text} has {len(common)} precisions for all components; one at most")
        return cls(common[0] if common else AUTO, named)

    def of(self, table: Sequence[Component], engine: Engine) -> dict[str, str]:
        """By component. Raises BadInputError for a name that is none, and for what its engine's GPUs do not have."""
        names = [component.name for component in table]
        for name in self.named:
            if name not in names:
                raise BadInputError(f"--precision names {name}; components: {', '.join(names)}")
        chosen = {component.name: self._one(component, engine) for component in table}
        for name, precision in chosen.items():
            if why := engine.refuses(precision):
                raise BadInputError(f"--precision {precision} of {name} {why}")
        return chosen

    def _one(self, component: Component, engine: Engine) -> str:
        asked = self.named.get(component.name, AUTO)
        if asked != AUTO:
            return asked
        allowed = [precision for precision in component.precisions if precision in engine.precisions]
        if self.common in allowed or (self.common in SCHEMES and _narrows(SCHEMES[self.common], component)):
            return self.common
        return next((precision for precision in allowed if precision in engine.native()), allowed[-1])


def _narrows(scheme: Scheme, component: Component) -> bool:
    """Whether a precision for all means this one: the denoiser, which is called at every step and takes the time; where
    weights alone are narrowed the encoders of text, of which they take the memory."""
    if scheme.activations:
        return component.role == "denoiser"
    return component.role == "encoder" and component.inputs[0].dtype == "INT64"
