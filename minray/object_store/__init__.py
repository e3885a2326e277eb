"""Where do large objects live? In one sparse memfd per node, the arena, which every process maps.

    arena     allocate, write and free within the slabs of one process, without a message
    slabs     the node's table: which process was granted which part of the arena
    blocks    headers in memory, by which a dead process's slabs are read back
    views     zero-copy read-only buffers, and the news that the last of them died
    readers   is a block being read, in whatever process? before it is moved or taken from the dead
    layout    how the buffers of one value lie in one block
    extents   free memory: which piece to take, and merging
    pages     how to copy fastest, by what is mapped already
    spill_files   how what was spilled lies on disk, and comes back without a copy

Knows nothing of object ids, references or sockets.
"""
