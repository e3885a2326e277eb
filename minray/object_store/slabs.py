"""Which process may allocate where in the node's arena?

The node cuts the arena into equal slabs and grants runs of them; inside its slabs a process
allocates without asking. Pure: no memory is touched here.

    free ──grant──► client's ──give_back──► free
                       │ client dies
                       ▼
                    orphaned: stays while live blocks lie in it ──last one freed──► free

Grants are best fit over the free runs, lowest address first, so that whole runs are left for
objects of many slabs. A client may give back any whole slabs of its own, however they were
granted. Linear in the number of free runs; asked for once per slab, never per object.
"""

from __future__ import annotations

from collections.abc import Iterable

from minray.object_store.blocks import BlockInfo, slab_bytes_of


class SlabTable:
    """Owner of every slab. Not thread-safe: the node's loop owns it."""

    def __init__(self, capacity_bytes: int) -> None:
        self.slab_bytes = slab_bytes_of(capacity_bytes)
        self.slab_count = capacity_bytes // self.slab_bytes
        if self.slab_count < 1:
            raise ValueError(f"an object store of {capacity_bytes} bytes holds no slab of {self.slab_bytes}")
        self._owner: list[bytes | None] = [None] * self.slab_count
        self._free_slabs = self.slab_count
        self._runs: dict[int, int] = {0: self.slab_count}  # first slab of a free run: its length
        self._run_ending: dict[int, int] = {self.slab_count: 0}  # one past its last slab: its first
        self._orphans: dict[int, tuple[int, int]] = {}  # live block of a dead client: slabs [first, last]
        self._orphans_in: dict[int, int] = {}  # slab: how many of those blocks touch it

    @property
    def capacity_bytes(self) -> int:
        """Bytes in whole slabs."""
        return self.slab_count * self.slab_bytes

    def grant(self, client_id: bytes, size_bytes: int) -> tuple[int, int] | None:
        """Contiguous slabs of at least `size_bytes` for a client: (offset, size), None if no run fits."""
        if size_bytes <= 0:
            raise ValueError(f"{client_id.hex()} asked for a slab of {size_bytes} bytes")
        wanted = -(-size_bytes // self.slab_bytes)
        best = -1
        best_length = self.slab_count + 1
        for first, length in self._runs.items():
            if wanted <= length and (length < best_length or (length == best_length and first < best)):
                best, best_length = first, length
        if best < 0:
            return None
        self._remove_run(best)
        if best_length > wanted:
            self._insert_run(best + wanted, best_length - wanted)
        self._owner[best : best + wanted] = [client_id] * wanted
        self._free_slabs -= wanted
        return best * self.slab_bytes, wanted * self.slab_bytes

    def fits(self, size_bytes: int) -> bool:
        """Could a grant of that size be made now?"""
        wanted = -(-size_bytes // self.slab_bytes)
        return any(length >= wanted for length in self._runs.values())

    def owners(self) -> list[bytes | None]:
        """Of each slab, in order; a dead one as long as blocks in it live."""
        return list(self._owner)

    def give_back(self, client_id: bytes, offset: int, size_bytes: int) -> None:
        """A client returns whole slabs of its own, a grant or any part of its grants.

        Raises: ValueError, naming the client, when one of them is not the client's; nothing changes.
        """
        first, rest = divmod(offset, self.slab_bytes)
        count, rest_size = divmod(size_bytes, self.slab_bytes)
        if rest or rest_size or count < 1 or first < 0 or first + count > self.slab_count:
            raise ValueError(f"{client_id.hex()} returned {offset}+{size_bytes}: not whole slabs")
        if any(owner != client_id for owner in self._owner[first : first + count]):
            raise ValueError(f"{client_id.hex()} returned {offset}+{size_bytes}: not all of it is its own")
        if any(slab in self._orphans_in for slab in range(first, first + count)):
            raise ValueError(f"{client_id.hex()} returned {offset}+{size_bytes} after its death")
        self._release(first, count)

    def orphan(self, client_id: bytes, live_blocks: Iterable[BlockInfo]) -> list[tuple[int, int]]:
        """A client died: keep its slabs that hold `live_blocks`, free the others.

        Returns: the freed ranges (offset, size), to be punched.
        Raises: ValueError when a block does not lie in the client's slabs; nothing changes.
        """
        orphans: dict[int, tuple[int, int]] = {}
        for block in live_blocks:
            first = block.start // self.slab_bytes
            last = (block.start + block.total_bytes - 1) // self.slab_bytes
            inside = 0 <= first <= last < self.slab_count
            if not inside or any(owner != client_id for owner in self._owner[first : last + 1]):
                raise ValueError(f"block {block.offset} does not lie in the slabs of {client_id.hex()}")
            orphans[block.offset] = (first, last)
        for offset, (first, last) in orphans.items():
            self._orphans[offset] = (first, last)
            for slab in range(first, last + 1):
                self._orphans_in[slab] = self._orphans_in.get(slab, 0) + 1
        owned = [slab for slab, owner in enumerate(self._owner) if owner == client_id]
        return self._release_slabs(slab for slab in owned if slab not in self._orphans_in)

    def free_orphans(self, offsets: Iterable[int]) -> list[tuple[int, int]]:
        """Blocks (payload offsets) of dead clients that nobody refers to any more.

        Returns: the ranges (offset, size) that are free now, to be punched.
        Raises: ValueError when one is not an orphan, or is named twice; nothing changes.
        """
        wanted = list(offsets)
        unknown = [offset for offset in wanted if offset not in self._orphans]
        if unknown or len(set(wanted)) != len(wanted):
            raise ValueError(f"not blocks of a dead client, or named twice: {unknown or wanted}")
        emptied = []
        for offset in wanted:
            first, last = self._orphans.pop(offset)
            for slab in range(first, last + 1):
                self._orphans_in[slab] -= 1
                if not self._orphans_in[slab]:
                    del self._orphans_in[slab]
                    emptied.append(slab)
        return self._release_slabs(emptied)

    def ranges(self, client_id: bytes) -> list[tuple[int, int]]:
        """The client's slabs as maximal runs (offset, size), in order: what `scan_slab` walks."""
        return self._merged(slab for slab, owner in enumerate(self._owner) if owner == client_id)

    def granted_by_client(self) -> dict[bytes, int]:
        """Bytes of slabs per client, dead ones with orphaned blocks included."""
        granted: dict[bytes, int] = {}
        for owner in self._owner:
            if owner is not None:
                granted[owner] = granted.get(owner, 0) + self.slab_bytes
        return granted

    def free_bytes(self) -> int:
        """Bytes in slabs that nobody owns."""
        return self._free_slabs * self.slab_bytes

    def orphan_offsets(self) -> list[int]:
        """Payload offsets of the live blocks of dead clients, in order."""
        return sorted(self._orphans)

    def check_invariants(self) -> None:
        """Assert that runs and owners tell the same story. For tests, simulation and lessons."""
        covered: set[int] = set()
        for first, length in self._runs.items():
            assert length > 0 and self._run_ending[first + length] == first
            assert first + length not in self._runs, "free runs touch: they should have been merged"
            covered.update(range(first, first + length))
        assert len(self._run_ending) == len(self._runs)
        assert covered == {slab for slab, owner in enumerate(self._owner) if owner is None}
        assert len(covered) == self._free_slabs
        touched: dict[int, int] = {}
        for first, last in self._orphans.values():
            for slab in range(first, last + 1):
                touched[slab] = touched.get(slab, 0) + 1
        assert touched == self._orphans_in
        assert all(self._owner[slab] is not None for slab in touched)

    def _merged(self, slabs: Iterable[int]) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for slab in slabs:
            offset = slab * self.slab_bytes
            if runs and runs[-1][0] + runs[-1][1] == offset:
                runs[-1] = (runs[-1][0], runs[-1][1] + self.slab_bytes)
            else:
                runs.append((offset, self.slab_bytes))
        return runs

    def _release_slabs(self, slabs: Iterable[int]) -> list[tuple[int, int]]:
        ranges = self._merged(sorted(slabs))
        for offset, size_bytes in ranges:
            self._release(offset // self.slab_bytes, size_bytes // self.slab_bytes)
        return ranges

    def _release(self, first: int, count: int) -> None:
        self._owner[first : first + count] = [None] * count
        self._free_slabs += count
        end = first + count
        if first in self._run_ending:
            first = self._run_ending[first]
            self._remove_run(first)
        if end in self._runs:
            end += self._remove_run(end)
        self._insert_run(first, end - first)

    def _insert_run(self, first: int, length: int) -> None:
        self._runs[first] = length
        self._run_ending[first + length] = first

    def _remove_run(self, first: int) -> int:
        length = self._runs.pop(first)
        del self._run_ending[first + length]
        return length
