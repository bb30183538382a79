"""Sizes of pictures, (width, height) in pixels each: of the answer, and those that a family works at.

Numbers alone: no picture is seen here.
"""

import json
import math
from dataclasses import asdict, dataclass

from families.errors import SIZE_UNAVAILABLE, InvalidEditError

Size = tuple[int, int]


@dataclass(frozen=True)
class WorkingSize:
    """The numbers of the size rule, in pixels: a family's own, handed to `preprocess` with every picture."""

    max_pixels: int
    multiple: int
    min_side: int
    max_side: int

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()

    def of(self, width: int, height: int) -> Size:
        """The (width, height) a picture of this size is edited at.

        Aspect kept: scaled down until it has at most `max_pixels` and no side above `max_side`, scaled up only if its
        shorter side is below `min_side`; then each side goes to the nearest multiple of `multiple`, and to the multiple
        below where the nearest would break the budget. Only a strip too thin for both bounds loses its aspect.
        """
        scale = min(1.0, math.sqrt(self.max_pixels / (width * height)))
        scale = max(scale, self.min_side / min(width, height))
        scale = min(scale, self.max_side / max(width, height))
        sides = [self._side(width * scale), self._side(height * scale)]
        while sides[0] * sides[1] > self.max_pixels and max(sides) > self.min_side:
            sides[sides.index(max(sides))] -= self.multiple
        return sides[0], sides[1]

    @property
    def square(self) -> Size:
        """The largest square of the budget."""
        side = math.isqrt(self.max_pixels) // self.multiple * self.multiple
        return side, side

    @property
    def longest_aspect(self) -> float:
        """Of the longer side to the shorter, of sizes that can be worked at without squashing."""
        return min(self.max_side / self.min_side, self.max_pixels / self.min_side**2)

    def _side(self, pixels: float) -> int:
        """The nearest multiple within the bounds; a half goes up."""
        nearest = math.floor(pixels / self.multiple + 0.5) * self.multiple
        return min(max(nearest, self.min_side), self.max_side)


@dataclass(frozen=True)
class PreferredSizes:
    """A size rule of a model that was trained at few sizes, in pixels: (width, height) each."""

    sizes: tuple[Size, ...]

    def of(self, width: int, height: int) -> Size:
        """The one whose aspect is nearest to that of an input picture of this size; of two as near, the narrower."""
        aspect = width / height
        return min((abs(aspect - w / h), w, h) for w, h in self.sizes)[1:]

    @property
    def longest_aspect(self) -> float:
        """Of the longer side to the shorter, of sizes that can be worked at without much squashing."""
        return max(max(w / h, h / w) for w, h in self.sizes)

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class AreaSize:
    """A size rule of a model that was trained at one area, in pixels: small pictures are enlarged to it.

    Sides are the nearest multiples, or with `up` the next, which may be a little over the area.
    """

    area: int
    multiple: int
    min_side: int
    max_side: int
    up: bool = False

    @classmethod
    def up_to(cls, area: int, multiple: int, min_side: int, longest_aspect: int, *, up: bool = False) -> "AreaSize":
        """For pictures of up to so many times as long as wide; of longer ones the long side is bounded."""
        return cls(area, multiple, min_side, math.isqrt(area * longest_aspect) // multiple * multiple, up)

    def of(self, width: int, height: int) -> Size:
        """Aspect kept, but of a strip too thin for both bounds. As `calculate_dimensions` of diffusers where no bound
        is met."""
        ratio = width / height
        across = math.sqrt(self.area * ratio)
        down = across / ratio
        scale = min(1.0, self.max_side / max(across, down))
        return self._side(across * scale), self._side(down * scale)

    @property
    def square(self) -> Size:
        """Of the area."""
        return self.of(1, 1)

    @property
    def longest_aspect(self) -> float:
        """Of the longer side to the shorter, of sizes that can be worked at without squashing."""
        return self.max_side / self.min_side

    @property
    def largest(self) -> int:
        """Pixels, at least those of the largest size that it gives: of the longest, each side rounded."""
        short = self.area / self.max_side
        return math.ceil((self.max_side + self.rounding) * (short + self.rounding))

    @property
    def rounding(self) -> int:
        """Pixels, at most, by which a side is more than that of the area."""
        return self.multiple if self.up else self.multiple // 2

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()

    def _side(self, pixels: float) -> int:
        """The nearest multiple, or the next, within the bounds; of two as near the even one, as diffusers rounds."""
        count = math.ceil(pixels / self.multiple) if self.up else round(pixels / self.multiple)
        return min(max(count * self.multiple, self.min_side), self.max_side)


@dataclass(frozen=True)
class Framed:
    """A size rule for one picture: it has `size`, and stands in the middle of `frame`, its margins mirrored."""

    size: Size
    frame: Size

    def of(self, _width: int, _height: int) -> Size:
        """Its size in the frame."""
        return self.size

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Seen:
    """A size rule for one picture that a language model looks at: it is scaled to each of `sizes` (at least one), and
    then, by cubic convolution, to `seen`."""

    sizes: tuple[Size, ...]
    seen: Size

    def of(self, _width: int, _height: int) -> Size:
        """The size that it is scaled to first."""
        return self.sizes[0]

    def to_json(self) -> bytes:
        """The input `size_rule`."""
        return json.dumps(asdict(self)).encode()


OwnRule = WorkingSize | PreferredSizes | AreaSize
"""A family's."""
SizeRule = OwnRule | Framed | Seen


def size_rule(text: bytes) -> SizeRule:
    """From the input `size_rule`. Raises ValueError or TypeError for anything else."""
    content = json.loads(text)
    if "seen" in content:
        return Seen(tuple(map(_pair, content["sizes"])), _pair(content["seen"]))
    if "frame" in content:
        return Framed(_pair(content["size"]), _pair(content["frame"]))
    return own_rule(text)


def own_rule(text: str | bytes) -> OwnRule:
    """A family's, from its JSON. Raises ValueError or TypeError for anything else."""
    content = json.loads(text)
    if "sizes" in content:
        return PreferredSizes(tuple(map(_pair, content["sizes"])))
    if "area" in content:
        return AreaSize(**content)
    return WorkingSize(**content)


def _pair(sides: list[int]) -> Size:
    width, height = sides
    return int(width), int(height)


def exactly(size: Size) -> PreferredSizes:
    """The rule by which every picture has this size."""
    return PreferredSizes((size,))


def within(own: Size, max_pixels: int) -> Size:
    """The size of the answer to a picture of `own` size that asks for none: its own, or the largest of its aspect that
    has at most `max_pixels`, to the pixel."""
    width, height = own
    if width * height <= max_pixels:
        return own
    halves = math.isqrt(4 * max_pixels * width // height), math.isqrt(4 * max_pixels * height // width)
    nearest = (halves[0] + 1) // 2, (halves[1] + 1) // 2
    return nearest if nearest[0] * nearest[1] <= max_pixels else (halves[0] // 2, halves[1] // 2)


def same_aspect(one: Size, own: Size) -> bool:
    """Whether `one` is a scaled `own`, but for the rounding of a pixel."""
    (width, height), (own_width, own_height) = one, own
    return abs(width * own_height - height * own_width) <= max(own_width, own_height)


def require_within(asked: Size, max_pixels: int, longest_aspect: float | None) -> None:
    """Raises InvalidEditError, naming the bound, for an asked size that has none, is over the budget, or too thin;
    `longest_aspect` None: it cannot be."""
    width, height = asked
    if min(width, height) < 1:
        raise InvalidEditError(SIZE_UNAVAILABLE, f"each side must be 1 to {max_pixels} pixels")
    if width * height > max_pixels:
        raise InvalidEditError(SIZE_UNAVAILABLE, f"the answer may have at most {max_pixels} pixels")
    if longest_aspect is not None and max(asked) > longest_aspect * min(asked):
        message = f"the longer side may be at most {round(longest_aspect, 1):.10g} times the shorter one"
        raise InvalidEditError(SIZE_UNAVAILABLE, message)


def framed(own: Size, answer: Size, working: Size) -> SizeRule:
    """How a picture of `own` size is seen in the frame of an answer that is worked at `working`: whole, in the middle.

    Of the answer's aspect it fills the frame; else one side does, and beside it its margins are mirrored.
    """
    if same_aspect(answer, own):
        return exactly(working)
    scale = min(side / mine for side, mine in zip(answer, own, strict=True))
    shares = [mine * scale / side for side, mine in zip(answer, own, strict=True)]
    width, height = (min(whole, max(1, round(whole * share))) for whole, share in zip(working, shares, strict=True))
    return Framed((width, height), working)
