# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Objects: put, get, zero copy, who owns what
#
# *About 40 minutes. You need lesson 01 and a little numpy: arrays, `sum`, `mean`.*
#
# After this lesson you can
#
# 1. say what stands behind a **reference**, and store a large value **once** for many tasks;
# 2. read an array **in place**, without a copy, from any process, and say why you may not write into it;
# 3. say who **owns** an object, who only borrows it, and when its memory is free again;
# 4. find a **leak**: the reference that somebody forgot;
# 5. say what happens when the memory is full, and when an owner dies.
#
# How to work: run the cells from top to bottom with **Shift + Enter**. Three cells say
# `# your code here`. The card below each of them tells you how far you are.

# %% tags=["setup"]
ENGINE = "minray"  # "ray" runs this lesson on real Ray, unchanged

import time

import numpy as np

if ENGINE == "ray":
    import ray
else:
    import minray as ray

MB = 1_000_000
context = ray.init(num_cpus=4, object_store_memory=200 * MB, ignore_reinit_error=True)

# %%
# NBVAL_CHECK_OUTPUT
print(f"{ray.cluster_resources()['object_store_memory'] / MB:.0f} MB of shared memory for objects")

# %% [markdown]
# Tasks and your notebook run in different processes. Each process has its own memory. So where is the
# result of a task, before you get it? In the **object store**: a piece of memory that all processes share.
#
# ## 1 · A reference is not a value
#
# `ray.put` stores a value and gives you a reference to it. `ray.get` gives you the value.

# %%
# NBVAL_CHECK_OUTPUT
array = np.arange(250_000, dtype=np.float64)
ref = ray.put(array)

print(f"the array: {array.nbytes / MB:.0f} MB")
print("the reference is an", type(ref).__name__)
print("and the array is back:", np.array_equal(ray.get(ref), array))

# %% [markdown]
# The reference is small: think of a cloakroom ticket. You can give it to a task. The task gets the
# array, as you have seen in lesson 01.
#
# But you could also give the array itself to the task. **What is the difference? Make a guess first.**

# %%
from minray.widgets import ObjectStoreView, PredictView

guess = PredictView(
    "Fifty tasks need the same array of 2 MB. You pass the array itself to each of them. "
    "How often is it stored in shared memory?",
    kind="choice",
    options=["never", "once", "once for each worker", "50 times"],
)
guess


# %% tags=["setup"]
@ray.remote
def scaled_sum(array, factor):
    time.sleep(0.05)
    return float(factor * array.sum())


# %%
from minray.grading import trace, traced

with traced() as by_value:  # keeps the events of this block
    sums = ray.get([scaled_sum.remote(array, factor) for factor in range(50)])

with traced() as by_reference:
    ref = ray.put(array)
    sums = ray.get([scaled_sum.remote(ref, factor) for factor in range(50)])

# %%
# NBVAL_CHECK_OUTPUT
if ENGINE == "minray":  # only minray's events say how often
    stored = [len(trace.stored(run, at_least=MB)) for run in (by_value, by_reference)]
    print(f"passed as a value, the array was stored {stored[0]} times; as a reference, {stored[1]} time")

# %%
if ENGINE == "minray":
    answers = {0: "never", 1: "once", 50: "50 times"}
    print(guess.reveal(answers.get(stored[0], "once for each worker")).words)

# %% [markdown]
# Each `.remote(array, ...)` is a call of its own. It stores the array, and the next call stores it
# again: it cannot know that the array is still the same.
#
# **Put it once, pass the reference.** (Small values, up to 100 KB, travel together with the call. For
# them it does not matter.)
#
# ## 2 · Watch it
#
# Run the next cell. It shows the shared memory, which is empty for the moment. Then run the cell below it,
# and **look at the picture while that cell is busy**. It takes about three seconds.
#
# Each block is one large object. Its width is its size.

# %% tags=["picture"]
view = ObjectStoreView()
view

# %%
with view:  # the view draws this block
    values = [scaled_sum.remote(array, factor) for factor in range(20)]  # twenty times the array
    ray.get(values)
    time.sleep(0.5)
    ref = ray.put(array)  # one array
    results = [scaled_sum.remote(ref, factor) for factor in range(40)]
    ray.get(results)
    time.sleep(0.5)
    del ref, results
    time.sleep(0.3)

# %% [markdown]
# What to see in the picture:
#
# - First, twenty blocks called *argument*. Each of them goes when its task is done.
# - Then one block called *put*. It is orange and dotted while other processes **read** it: up to
#   four workers at the same time, all of them the same block.
# - With `del ref`, the block goes. Nobody referred to it any more.
# - The results are only numbers. They are small and need no block.
#
# Move the **slider** under the picture, or click into the curve: you see any earlier moment again. Point at
# a block, or at a row of the table, to see who owns it.

# %% tags=["setup"]
from minray.grading import checker

check = checker("02_objects", ray)

# %% [markdown]
# ## 3 · Exercise 1: store it once
#
# Write `scaled_sums`. It gets an array and a list of factors. It returns the list of the sums, one
# `scaled_sum` task for each factor. The array is stored only once, and the tasks run at the same time.


# %% exercise="once"
def scaled_sums(array, factors):
    """factor * sum of the array, for each factor. Each one is computed by a scaled_sum task."""
    ### BEGIN SOLUTION
    ref = ray.put(array)
    return ray.get([scaled_sum.remote(ref, factor) for factor in factors])
    ### END SOLUTION


# %% check="once"
# NBVAL_CHECK_OUTPUT
check("once", scaled_sums)

# %% [markdown]
# ## 4 · Zero copy
#
# How does a worker read an array that lies in shared memory? It does not copy it. It gets an array object
# whose bytes **are** the shared memory. So does your notebook, when you call `ray.get`.

# %%
# NBVAL_CHECK_OUTPUT
ref = ray.put(array)
one = ray.get(ref)
two = ray.get(ref)

print("two get the same Python object:       ", one is two)
print("they share their bytes with each other:", np.shares_memory(one, two))
print("they share their bytes with the array: ", np.shares_memory(one, array))

# %% [markdown]
# `put` copies the bytes once, into shared memory. After that, nobody copies them again. This makes a
# difference that you can measure. **How long does `ray.get` take for an array of 40 MB?**

# %%
speed = PredictView(
    "ray.get of an array of 40 MB, and then a copy of that array. How long does the ray.get take?",
    kind="choice",
    options=["about the time of the copy", "more than the copy", "less than a tenth of it"],
)
speed

# %%
large_ref = ray.put(np.zeros(5_000_000))

started = time.perf_counter()
large = ray.get(large_ref)
got_s = time.perf_counter() - started

started = time.perf_counter()
copied = large.copy()
copied_s = time.perf_counter() - started

print(f"get: {1000 * got_s:.2f} ms, copy: {1000 * copied_s:.2f} ms")

# %%
share = got_s / copied_s
fact = "about the time of the copy"
if share < 0.1:
    fact = "less than a tenth of it"
elif share > 1.5:
    fact = "more than the copy"
print(speed.reveal(fact).words)
del large, large_ref, copied

# %% [markdown]
# There is a price. What all can read, nobody may change: another process could be reading it right now.
# So an array that you get is **read-only**.

# %%
# NBVAL_CHECK_OUTPUT
try:
    one[0] = 42
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# If you need to write, make a copy. It is yours.

# %%
# NBVAL_CHECK_OUTPUT
mine = one.copy()
mine[0] = 42
print("my copy begins with", mine[0], "and the object with", ray.get(ref)[0])

# %% [markdown]
# Plain Python values (lists, dictionaries, your own classes) are no arrays. Each `get` builds a new one
# for you. You may change it, and the object stays as it was.

# %%
# NBVAL_CHECK_OUTPUT
list_ref = ray.put([1, 2, 3])
first = ray.get(list_ref)
first.append(4)
print(first, "but the object is still", ray.get(list_ref))

# %% [markdown]
# **An object never changes.** This is why it can be in many places, be read by anybody at any time, and be
# computed again if it is lost.
#
# ## Exercise 2: work on shared memory
#
# Write the task `centre`: it gets an array and returns a new array, shifted so that its mean is 0. Then
# write `centre_all`: it gets a list of **references** to arrays and returns a list of references to
# the centred arrays. No array comes to the notebook, and none is stored twice.


# %% exercise="centre"
@ray.remote
def centre(array):
    """The array minus its mean."""
    ### BEGIN SOLUTION
    return array - array.mean()
    ### END SOLUTION


def centre_all(refs):
    """References to the centred arrays, in the same order."""
    ### BEGIN SOLUTION
    return [centre.remote(ref) for ref in refs]
    ### END SOLUTION


# %% check="centre"
# NBVAL_CHECK_OUTPUT
check("centre", centre_all)

# %% [markdown]
# ## 5 · Who owns what
#
# Who decides that an object is not needed any more? Its **owner**: the process that called `put`, or that
# called `.remote()` and so created the reference. The owner counts:
#
# - the references in its own program,
# - the tasks on their way that take the object as an argument,
# - the **borrowers**: other processes that keep a reference to it.
#
# When all of them are gone, the memory is free. You have nothing to free by hand. But you can keep an
# object alive by accident. Watch what keeps it:

# %% tags=["picture"]
life = ObjectStoreView()
life

# %%
with life:
    notes = [ray.put(array) for _ in range(6)]  # six objects
    time.sleep(0.6)
    del notes[:2]  # two of them go
    time.sleep(0.6)
    kept = notes  # a second name for the same list ...
    del notes  # ... so nothing goes here
    time.sleep(0.6)
    value = ray.get(kept[0])
    del kept  # three go. One stays: `value` still reads its bytes
    time.sleep(0.6)
    del value
    time.sleep(0.4)

# %% [markdown]
# Look at the steps of the curve. The fourth one is the most surprising: the last *reference* is gone, and
# one block is still there. `value` is an array, not a reference. But its bytes lie in the block.
#
# A notebook has one more trap: Jupyter keeps what a cell shows, in `Out[7]` and in `_`. If the last line of
# a cell is `ref`, Jupyter refers to the object from then on.
#
# **Borrowers.** An actor keeps what you give to it. Look at how you give it.


# %%
# NBVAL_CHECK_OUTPUT
@ray.remote
class Shelf:
    def __init__(self):
        self.things = []

    def add(self, thing):
        self.things.append(thing)
        return type(thing).__name__


shelf = Shelf.remote()
ref = ray.put(array)
print("given alone, the reference arrives as an", ray.get(shelf.add.remote(ref)))
inner = ray.get(shelf.add.remote([ref]))
print("given in a list, the argument is a", inner)

# %% [markdown]
# A reference that is itself an argument is **resolved**: the method gets the array. A reference inside of
# something else, like a list, is **not resolved**: the method gets the list, with the reference in it. The
# actor is a borrower now, and the object lives as long as the actor keeps it:


# %%
# NBVAL_CHECK_OUTPUT
@ray.remote
def look_inside(things):
    inside = things[0]
    return isinstance(inside, ray.ObjectRef), float(ray.get(inside).sum())


is_reference, found = ray.get(look_inside.remote([ref]))
print("a reference:", is_reference, "- and behind it, an array with the sum", found)

# %%
if ENGINE == "minray":
    with ObjectStoreView(history=True) as borrowing:
        time.sleep(0.2)
    borrowed = [stored for stored in borrowing.objects() if stored.state == "memory" and stored.readers]
    for stored in borrowed:
        print(
            f"{stored.name}, {stored.size_bytes / MB:.0f} MB: owned by the {stored.owner}, read by {stored.readers}"
        )

# %% [markdown]
# ## Exercise 3: much data in little memory
#
# Two tasks are given. `make` makes an array of 4 MB, `total` adds it up.
#
# Write `sums_of`. It gets a list of numbers and returns the list of their totals, one `make` and one
# `total` task for each number. There may be many numbers, more than fit into memory. So there are **never
# more than six arrays at the same time**. Still, several of them are made in parallel, and no array comes to
# the notebook.


# %% tags=["setup"]
@ray.remote
def make(number):
    time.sleep(0.05)
    return np.full(500_000, float(number))


@ray.remote
def total(array):
    return float(array.sum())


# %% exercise="budget"
def sums_of(numbers):
    """The total of make(number) for each number, with six arrays in memory at most."""
    ### BEGIN SOLUTION
    sums = []
    for start in range(0, len(numbers), 4):
        wave = [total.remote(make.remote(number)) for number in numbers[start : start + 4]]
        sums += ray.get(wave)
    return sums
    ### END SOLUTION


# %% check="budget"
# NBVAL_CHECK_OUTPUT
check("budget", sums_of)

# %% [markdown]
# ## 6 · Break it
#
# **The owner dies.** This actor stores an array and gives you a reference to it, in a list. The
# actor is the owner. You borrow, and have not looked at it yet.


# %%
@ray.remote
class Library:
    def lend(self):
        return [ray.put(np.ones(250_000))]


library = Library.remote()
(lent,) = ray.get(library.lend.remote())
print("you hold", lent)

# %%
# NBVAL_CHECK_OUTPUT
ray.kill(library)
time.sleep(1)  # bad news travels, too

try:
    ray.get(lent, timeout=20)
except ray.exceptions.OwnerDiedError as error:
    failure = error
    print("caught an OwnerDiedError")

# %%
print(failure)

# %% [markdown]
# The object shares the fate of its owner: only the owner knew where it is and who needs it. If something
# must outlive a worker, let a process own it that lives longer. What a task or a method **returns** belongs to
# the *caller*. So `return array` would have been the better `lend`.

# %% [markdown]
# **More than fits.** There are 200 MB for objects. What happens when you keep fourteen arrays of 20 MB?
# Run the next cell, and look at the picture during the one after it.

# %% tags=["picture"]
full = ObjectStoreView()
full

# %%
with full:
    many = []
    for number in range(14):
        many.append(ray.put(np.full(2_500_000, float(number))))
        time.sleep(0.15)
    time.sleep(0.5)
    oldest = ray.get(many[0])  # it was the first to be moved
    time.sleep(0.5)

# %%
# NBVAL_CHECK_OUTPUT
print("the oldest is as it was:", bool((oldest == 0.0).all()))
print("and so are all:", [float(ray.get(ref)[-1]) for ref in many])
del oldest, many

# %% [markdown]
# Nothing was lost. When the memory is full, objects that nobody reads at the moment are **spilled**: they
# move to the disk, the oldest first. Whoever gets one reads it from there; the program does not notice, except
# that a disk is slower. When the last reference goes, so does the file.

# %%
if ENGINE == "minray":
    for event in [event for event in full.events if type(event).__name__ == "ObjectSpilled"][:3]:
        print(f"{event.size_bytes / MB:.0f} MB went to {event.path} in {1000 * event.seconds:.0f} ms")

# %% [markdown]
# ## 7 · Replay
#
# We kept the events of the fifty tasks at the top. *Stored* and *freed* are two of them. Here is the
# beginning of the story in which the array was passed as a value.

# %%
short = {event.object_id: number for number, event in enumerate(trace.stored(by_value, at_least=MB))}
opening = by_value[0].time_s if by_value else 0.0

for event in [event for event in by_value if getattr(event, "object_id", None) in short][:12]:
    what = "stored" if type(event).__name__ == "ObjectPut" else "freed"
    print(f"{event.time_s - opening:6.3f} s   array {short[event.object_id]:<2}  {what}")

# %%
if ENGINE == "minray":
    for name, run in (("as a value", by_value), ("as a reference", by_reference)):
        print(f"{name}: at most {trace.most_stored(run, at_least=MB)} arrays at the same time")

# %% [markdown]
# And here is the life of the six notes, as the view drew it in the end:

# %% tags=["picture"]
from IPython.display import SVG

SVG(life.snapshot())

# %% [markdown]
# ## 8 · In real Ray
#
# Everything in this lesson is Ray's own model of objects: `put`, `get`, read-only arrays, owners and
# borrowers, `OwnerDiedError`, spilling. Go back to the first cell, write `ENGINE = "ray"`, restart the kernel
# and run it all again. (You need real Ray for it: `pip install ray`.)
#
# Two things differ. The live views and the questions to the trace are minray's own: on Ray the views stay
# empty, and the cards judge values only. And in a cluster of many machines, Ray copies an object to each
# machine that reads it, once. On one machine there is one copy, as here.
#
# ## 9 · The source that did it
#
# minray is made to be read. This is what your array went through, and the names to look for:
#
# | step | what does it |
# |---|---|
# | `ray.put(array)` | `minray.worker.waiting.Waiting.put` |
# | inline, or in shared memory? | `minray.worker.store.StoreClient.seal` |
# | a place is found for it | `minray.object_store.arena.Arena.allocate` |
# | a process reads it in place | `minray.object_store.views.read_only_buffers` |
# | a reference arrives in another process | `minray.worker.borrowing.Borrowing.register_borrows` |
# | the last reference goes | `minray.worker.store.SharedStored` |
# | the memory is free again | `minray.worker.borrowing.Borrowing.free_ended` |
# | no room: what moves to the disk? | `minray.worker.spilling.Spilling` |
# | the records behind the picture | `minray.base.events.ObjectPut` |
# | "how often was it stored?" | `minray.grading.trace.stored` |
#
# Any of them can be opened right here:

# %%
import inspect

from minray.object_store import views

print(inspect.getsource(views.read_only_buffers))
print(inspect.getsource(trace.most_stored))

# %% [markdown]
# ## 10 · Recap
#
# - A **reference** is a ticket. The object is in shared memory, once for all processes of the machine.
# - **Put it once, pass the reference.** A large argument is stored again with every call.
# - What you `get` from an array is **read-only** and not a copy. Copy it if you need to write.
# - The **owner** counts references, tasks and borrowers. What nobody needs is freed; what somebody
#   forgot stays. An owner that dies takes its objects along.
# - What does not fit into memory is **spilled** to the disk, and read from there.
#
# Three questions to finish with. Commit your answers, then run the folded cell below them.

# %%
from IPython.display import display

recap = [
    PredictView(
        "Eight workers on one machine read the same array of 100 MB. How much shared memory does that take?",
        kind="choice",
        options=["100 MB", "800 MB", "900 MB"],
    ),
    PredictView(
        "value = ray.get(ref); del ref. The array in `value` is large. Is its memory free now?",
        kind="choice",
        options=["yes, the last reference is gone", "no, value still reads it", "yes, value is a copy"],
    ),
    PredictView(
        "Your notebook calls ref = f.remote(). Who owns the result?",
        kind="choice",
        options=["the worker that computed it", "your notebook", "nobody, until you call ray.get"],
    ),
]
display(*recap)

# %% jupyter={"source_hidden": true}
for question, right, why in zip(
    recap,
    ["100 MB", "no, value still reads it", "your notebook"],
    [
        "All of them map the same memory.",
        "A view keeps its block alive, as a reference would.",
        "Who calls .remote() owns the reference, and with it the object.",
    ],
):
    question.reveal(right, why)

# %% [markdown]
# *Next: lesson 03 looks at actors, which keep a state between calls.*

# %%
ray.shutdown()
