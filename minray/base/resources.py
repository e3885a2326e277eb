"""How much does a request take, and does it fit?

Amounts are integers, ten-thousandths of a unit, so that 0.1 + 0.2 is 0.3 and a thousand grants and
returns leave no crumb. A request is a `Shape` (sorted name/amount pairs): equal requests are equal
dictionary keys. GPUs are counted twice, as an amount and one by one: a request for whole ones takes
free ids, a fraction shares one id with other fractions and never straddles two.

    capacity {"CPU": 2, "GPU": 2}      1.0 GPU -> (0,)      0.5 GPU -> (1,)      0.5 GPU -> (1,)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minray.base.messages import Shape

ONE = 10_000
"""One unit of a resource in ten-thousandths."""

_BYTE_RESOURCES = frozenset({"memory", "object_store_memory"})


def shape_of(amounts: Mapping[str, float]) -> Shape:
    """The canonical shape of a request; zero amounts vanish.

    Raises: ValueError for a negative amount, one finer than 0.0001, or a GPU count such as 1.5.
    """
    parts = []
    for name, amount in amounts.items():
        if amount is None or amount == 0:
            continue
        if amount < 0:
            raise ValueError(f"a request for {name}: {amount} is negative")
        scaled = round(amount * ONE)
        if scaled == 0:
            raise ValueError(f"a request for {name}: {amount} is finer than 0.0001, the smallest amount")
        if name == "GPU" and scaled > ONE and scaled % ONE:
            raise ValueError(f"a request for GPU: {amount}: more than one GPU must be a whole number")
        parts.append((name, scaled))
    return tuple(sorted(parts))


def amounts_of(shape: Shape) -> dict[str, float]:
    """The shape in units, as users write it."""
    return {name: _unscaled(amount) for name, amount in shape}


def _unscaled(amount: int) -> float:
    return amount / ONE


def larger_of(first: Shape, second: Shape) -> Shape:
    """The smallest shape that covers both."""
    merged = dict(first)
    for name, amount in second:
        merged[name] = max(amount, merged.get(name, 0))
    return tuple(sorted(merged.items()))


ENVIRONMENT = "env:"
"""Part of a shape, of amount zero, "env:<key>": only a worker of that runtime environment will do."""


def environment_of(shape: Shape) -> str:
    """The key of the runtime environment that `shape` asks for, "" for that of the job."""
    for name, amount in shape:
        if not amount and name.startswith(ENVIRONMENT):
            return name.removeprefix(ENVIRONMENT)
    return ""


def in_environment(shape: Shape, key: str) -> Shape:
    """`shape`, for workers of the runtime environment `key`."""
    return tuple(sorted((*shape, (ENVIRONMENT + key, 0)))) if key else shape


def describe(shape: Iterable[tuple[str, int]]) -> str:
    """ "CPU: 2, memory: 1.5 GB": amounts as a sentence part. "nothing" when empty."""
    return (
        ", ".join(
            f"{name}: {describe_amount(name, amount)}"
            for name, amount in shape
            if not name.startswith(ENVIRONMENT)
        )
        or "nothing"
    )


def describe_amount(name: str, amount: int) -> str:
    """One amount as people write it; bytes get a unit."""
    value = amount / ONE
    if name in _BYTE_RESOURCES:
        for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:.3g} {unit}"
        return f"{value:g} bytes"
    return f"{value:g}"


class ResourceSet:
    """Amounts by name. Missing names are zero. Amounts may go below zero while lent CPUs are taken back."""

    __slots__ = ("amounts",)

    def __init__(self, shape: Iterable[tuple[str, int]] = ()) -> None:
        self.amounts: dict[str, int] = dict(shape)

    def copy(self) -> ResourceSet:
        """An independent copy."""
        return ResourceSet(self.amounts.items())

    def add(self, shape: Iterable[tuple[str, int]]) -> None:
        """Put amounts back."""
        amounts = self.amounts
        for name, amount in shape:
            amounts[name] = amounts.get(name, 0) + amount

    def subtract(self, shape: Iterable[tuple[str, int]]) -> None:
        """Take amounts, below zero if need be: whether they fit is the caller's question."""
        amounts = self.amounts
        for name, amount in shape:
            amounts[name] = amounts.get(name, 0) - amount

    def fits(self, shape: Shape) -> bool:
        """Whether all of `shape` is there."""
        get = self.amounts.get
        return all(amount <= get(name, 0) for name, amount in shape)

    def times(self, shape: Shape, most: int) -> int:
        """How often `shape` could be taken, at most `most` times."""
        for name, amount in shape:
            if amount:
                most = min(most, max(0, self.amounts.get(name, 0)) // amount)
        return most

    def lacking(self, shape: Shape) -> tuple[str, ...]:
        """Names of which there is too little for `shape`."""
        get = self.amounts.get
        return tuple(name for name, amount in shape if amount > get(name, 0))

    def get(self, name: str) -> int:
        """The amount of `name`, zero when unknown."""
        return self.amounts.get(name, 0)

    def shape(self) -> Shape:
        """The positive amounts, sorted."""
        return tuple(sorted((name, amount) for name, amount in self.amounts.items() if amount > 0))

    def in_units(self) -> dict[str, float]:
        """Positive amounts in units, as Ray reports them: what is used up is absent."""
        return {name: _unscaled(amount) for name, amount in self.shape()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourceSet) and self.amounts == other.amounts

    def __hash__(self) -> int:
        raise TypeError("a ResourceSet changes; use its shape() as a key")

    def __repr__(self) -> str:
        return f"ResourceSet({describe(sorted(self.amounts.items()))})"


class GpuSet:
    """Which GPU ids are free, and by how much. Ids count from 0."""

    __slots__ = ("count", "free")

    def __init__(self, amount: int) -> None:
        self.count = amount // ONE
        self.free = [ONE] * self.count
        if amount % ONE:  # a declared half GPU is one id with half its share
            self.free.append(amount % ONE)
            self.count += 1

    def copy(self) -> GpuSet:
        """An independent copy."""
        twin = GpuSet(0)
        twin.count, twin.free = self.count, list(self.free)
        return twin

    def fits(self, amount: int) -> bool:
        """Whether `amount` can be served by whole ids, or a fraction by one id."""
        if amount < ONE:
            return any(free >= amount for free in self.free) if amount else True
        return sum(free == ONE for free in self.free) >= -(-amount // ONE)

    def take(self, amount: int) -> tuple[tuple[int, int], ...]:
        """Assign (id, ten-thousandths) pairs. A fraction goes to the fullest id that still has room,
        so that whole ones stay whole. The caller has asked `fits`."""
        if amount == 0:
            return ()
        if amount < ONE:
            gpu = min(
                (i for i in range(self.count) if self.free[i] >= amount), key=lambda i: (self.free[i], i)
            )
            self.free[gpu] -= amount
            return ((gpu, amount),)
        chosen = [i for i in range(self.count) if self.free[i] == ONE][: -(-amount // ONE)]
        for gpu in chosen:
            self.free[gpu] = 0
        return tuple((gpu, ONE) for gpu in chosen)

    def give_back(self, taken: Iterable[tuple[int, int]]) -> None:
        """Return what `take` assigned."""
        for gpu, amount in taken:
            self.free[gpu] += amount


def missing_sentence(shape: Shape, capacity: Mapping[str, int], where: str = "this node") -> str:
    """ "needs GPU: 1, this node has CPU: 2, memory: 4 GB": why `shape` can never be served."""
    lacking = [(name, amount) for name, amount in shape if amount > capacity.get(name, 0)]
    has = sorted((name, amount) for name, amount in capacity.items() if amount > 0)
    shown = [part for part in has if not part[0].startswith("node:") and part[0] != "object_store_memory"]
    return f"needs {describe(lacking or shape)}; {where} has {describe(shown)}"
