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
# # 01 · Tasks and futures
#
# *About 30 minutes. You need Python functions and lists. Nothing else.*
#
# After this lesson you can
#
# 1. run an ordinary Python function as a **task** in another process, and many of them at once;
# 2. say what a **reference** is, and why you get it before the result exists;
# 3. work with results **as they arrive**, and build a computation out of references;
# 4. say what happens when a task raises an exception, and when its whole process dies.
#
# How to work: run the cells from top to bottom with **Shift + Enter**. Three cells say
# `# your code here`. The card below each of them tells you how far you are.

# %% tags=["setup"]
ENGINE = "minray"  # "ray" runs this lesson on real Ray, unchanged

import time

if ENGINE == "ray":
    import ray
else:
    import minray as ray

context = ray.init(num_cpus=4, ignore_reinit_error=True)

# %%
# NBVAL_CHECK_OUTPUT
ray.cluster_resources()["CPU"]

# %% [markdown]
# A cluster is now running on your machine. It is a handful of processes beside this notebook.
#
# `num_cpus=4` *declares* four CPUs: four tasks may run at the same time. Your laptop may have only two
# cores. That is fine here, because our tasks mostly sleep, and sleeping needs no core.
#
# ## 1 · From a function to a task
#
# Here is a slow function, called four times in a loop.


# %%
def slow_square_here(x):
    time.sleep(0.5)
    return x * x


started = time.perf_counter()
squares = [slow_square_here(x) for x in range(4)]
print(f"{squares} after {time.perf_counter() - started:.2f} s")

# %% [markdown]
# Four calls, one after the other: four times half a second.
#
# Soon we make each call a task. There are four CPUs. **Make a guess before you go on.**

# %%
from minray.widgets import PredictView, TimelineView

choices = ["about 0.1 s", "about 0.5 s", "about 1 s", "about 2 s"]
guess = PredictView(
    "Four tasks that take 0.5 s each, on four CPUs. How long until all four results are there?",
    kind="choice",
    options=choices,
)
guess

# %% [markdown]
# `@ray.remote` makes a function a **remote function**. You call it with `.remote(...)`.


# %% tags=["setup"]
@ray.remote
def slow_square(x):
    time.sleep(0.5)
    return x * x


# %%
started = time.perf_counter()
refs = [slow_square.remote(x) for x in range(4)]
submitted_s = time.perf_counter() - started
squares = ray.get(refs)
finished_s = time.perf_counter() - started
print(f"four references after {1000 * submitted_s:.1f} ms")
print(f"four results {squares} after {finished_s:.2f} s")

# %%
closest = min(choices, key=lambda choice: abs(float(choice.split()[1]) - finished_s))
print(guess.reveal(closest).words)

# %% [markdown]
# Two things happened.
#
# - `slow_square.remote(x)` came back **at once**. It did not compute anything. It sent the call to a
#   worker process and returned a **reference** (people also say *future*): a ticket for a result that
#   does not exist yet.
# - `ray.get(refs)` **waited** for the four results and brought them here.
#
# (On real Ray the first call takes longer. It has to start its worker processes.)

# %%
refs[0]

# %% [markdown]
# The task really ran somewhere else. Every worker is a process with its own number:

# %%
import os


@ray.remote
def who_am_i():
    time.sleep(0.1)
    return os.getpid()


workers = set(ray.get([who_am_i.remote() for _ in range(8)]))
print(f"this notebook is process {os.getpid()}, the tasks ran in {sorted(workers)}")

# %%
# NBVAL_CHECK_OUTPUT
print("this notebook is one of the workers:", os.getpid() in workers)

# %% [markdown]
# ## 2 · Watch it
#
# Run the next cell. It shows a picture that stays empty for the moment. Then run the cell below it, and
# **look at the picture while that cell is busy**. It takes about four seconds.
#
# Think of a kitchen with four cooks and sixteen orders. Each row is one worker process: a cook. Each bar
# is one task: a dish.

# %% tags=["picture"]
view = TimelineView()
view

# %%
from minray.grading import trace, traced


@ray.remote
def cook(dish, seconds):
    time.sleep(seconds)
    return f"{dish} is ready"


orders = [0.9, 0.4, 1.2, 0.6, 0.8, 1.0, 0.5, 0.7, 1.1, 0.4, 0.9, 0.6, 0.8, 0.5, 0.7, 1.0]

with view, traced() as kitchen:  # the view draws this block; `kitchen` keeps its events
    dishes = []
    for number, seconds in enumerate(orders):
        dishes.append(cook.remote(f"dish {number}", seconds))
        time.sleep(0.1)  # the next guest orders a moment later
    ready = ray.get(dishes)

print(ready[-1])

# %% [markdown]
# What to see in the picture:
#
# - The blue row is this notebook. When it has placed all orders, it waits in `ray.get`.
# - There are never more than four bars at the same time. We declared four CPUs.
# - The first dishes start at once. Later ones **wait**, because all four cooks are busy.
# - A cook takes the next dish as soon as the last one is done. Nobody waits for the slowest.
#
# Try it: let the guests order faster, `time.sleep(0.02)`, and run both cells again. What happens to the
# curve of the waiting dishes at the top? And to the time when the last dish is ready?
#
# The picture is drawn from **events**: small records such as "submitted", "started", "finished". You can
# ask them questions, too. How many dishes were on the stove at the same time, at most?

# %%
# NBVAL_CHECK_OUTPUT
trace.max_overlap(kitchen, "cook")

# %% [markdown]
# The exercises below are checked in this way. The check does not look at your clock. It looks at what your
# program *did*.

# %% tags=["setup"]
from minray.grading import checker

check = checker("01_tasks", ray)

# %% [markdown]
# ## 3 · Exercise 1: square a list in parallel
#
# Write `square_all`. It gets a list of numbers and returns the list of their squares. Every square is one
# `slow_square` task, and the tasks run at the same time.


# %% exercise="squares"
def square_all(numbers):
    """The squares of `numbers`, in the same order. Each one is computed by a slow_square task."""
    ### BEGIN SOLUTION
    refs = [slow_square.remote(x) for x in numbers]
    return ray.get(refs)
    ### END SOLUTION


# %% check="squares"
# NBVAL_CHECK_OUTPUT
check("squares", square_all)

# %% [markdown]
# The most common mistake is worth a look. It gives the right numbers, and it is as slow as the loop at the
# top:
#
# ```python
# return [ray.get(slow_square.remote(x)) for x in numbers]    # waits in every round
# ```
#
# **Submit everything first. Get last.**

# %% [markdown]
# ## 4 · First come, first served
#
# `ray.get(refs)` waits for *all* results. Often you could go on as soon as *one* is there. `ray.wait`
# sorts references into two lists: what is ready, and what is still pending.


# %% tags=["setup"]
@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


# %%
# NBVAL_CHECK_OUTPUT
refs = [nap.remote(0.6), nap.remote(0.2), nap.remote(0.4)]
ready, pending = ray.wait(refs)
print(len(ready), "ready,", len(pending), "pending")
print("the first one slept for", ray.get(ready[0]), "s")
print("the others slept for", ray.get(pending), "s")

# %% [markdown]
# `ray.wait` does not fetch anything. It tells you which tickets you can cash in now. With
# `num_returns=2` it waits for two, with `timeout=0.5` it waits for half a second at most.
#
# ## Exercise 2: take results as they arrive
#
# Write `in_order_of_arrival`. It gets a list of references. It returns the list of their results, in the
# order in which the tasks **finished**.


# %% exercise="arrivals"
def in_order_of_arrival(refs):
    """The results of `refs`: the task that finishes first comes first."""
    ### BEGIN SOLUTION
    results = []
    pending = list(refs)
    while pending:
        ready, pending = ray.wait(pending)
        results.append(ray.get(ready[0]))
    return results
    ### END SOLUTION


# %% check="arrivals"
# NBVAL_CHECK_OUTPUT
check("arrivals", in_order_of_arrival)

# %% [markdown]
# ## 5 · A ticket is as good as a result
#
# You can pass a reference to another task. You need not wait for it first.


# %% tags=["setup"]
@ray.remote
def add(a, b):
    time.sleep(0.05)
    return a + b


# %%
# NBVAL_CHECK_OUTPUT
three = add.remote(1, 2)
six = add.remote(three, 3)  # `three` is a reference, and perhaps not computed yet
ray.get(six)

# %% [markdown]
# Inside `add`, the argument `a` is the number 3. The runtime waited for the first task, then it started the
# second one. The notebook never saw the 3.
#
# So you can describe a whole computation at once, and look only at the end of it. The order in which you
# connect the tasks matters. To add eight numbers, you can build a **chain** or a **tree**:
#
# ```text
#  chain: seven steps, one after the other          tree: seven tasks, three steps
#
#  1 2 3 4 5 6 7 8                                  1 2   3 4   5 6   7 8
#  └┬┘ │ │ │ │ │ │                                  └┬┘   └┬┘   └┬┘   └┬┘
#   └─┬┘ │ │ │ │ │                                   └──┬──┘     └──┬──┘
#     └─┬┘ │ │ │ │                                      └─────┬─────┘
#       └ ...                                                 sum
# ```
#
# ## Exercise 3: add up in a tree
#
# Write `tree_sum`. It gets a list of references to numbers, one at least. It returns **one reference** to
# their sum. It uses `add` tasks only, and no `ray.get`.


# %% exercise="tree"
def tree_sum(refs):
    """One reference to the sum of all `refs`, computed by a tree of add tasks."""
    ### BEGIN SOLUTION
    level = list(refs)
    while len(level) > 1:
        pairs = [add.remote(a, b) for a, b in zip(level[::2], level[1::2])]
        left_over = level[-1:] if len(level) % 2 else []
        level = pairs + left_over
    return level[0]
    ### END SOLUTION


# %% check="tree"
# NBVAL_CHECK_OUTPUT
check("tree", tree_sum)

# %% [markdown]
# ## 6 · Break it
#
# **An exception.** What happens when a task raises one? Submitting it goes well: nothing has run yet. The
# exception arrives when you ask for the result, and it has kept its type.


# %%
# NBVAL_CHECK_OUTPUT
@ray.remote
def divide(a, b):
    return a / b


ref = divide.remote(1, 0)
try:
    ray.get(ref)
except ZeroDivisionError as error:
    failure = error
    print("caught a ZeroDivisionError")

# %% [markdown]
# The message says where it happened: in which task, in which process, and in which line *over there*.

# %%
print(failure)

# %% [markdown]
# **A dead worker.** Now something worse. This task kills its own process, with a signal that no program can
# catch. It does so the first time it runs. The view below shows what the runtime does about it.

# %% tags=["picture"]
rescue = TimelineView()
rescue

# %%
# NBVAL_CHECK_OUTPUT
import signal
import tempfile


@ray.remote(max_retries=2)
def unlucky(mark):
    time.sleep(0.5)
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)  # the first attempt ends here
    return "done, at the second attempt"


with rescue, traced() as story, tempfile.TemporaryDirectory() as folder:
    answer = ray.get(unlucky.remote(os.path.join(folder, "was-here")))

print(answer)

# %% [markdown]
# Nobody lost anything. The runtime saw that the process was gone, took another worker, and ran the task
# again. This is why a task should do no harm when it runs twice.
#
# - A worker that **dies** is retried by itself (`max_retries`, 3 times unless you say otherwise).
# - An **exception** is not retried, because it would most likely come again. You can ask for it with
#   `@ray.remote(retry_exceptions=True)`.

# %%
for event in trace.retried(story, "unlucky"):
    print(f"{event.name}, now attempt {event.attempt}: {event.reason}")

# %% [markdown]
# ## 7 · Replay
#
# The kitchen is long closed, but we kept its events. Here is how the evening began. *Submitted*: the guest
# has ordered. *Dispatched*: the order went to a cook.

# %%
opening = kitchen[0].time_s if kitchen else 0.0
dish_of = {event.task_id: number for number, event in enumerate(trace.submissions(kitchen, "cook"))}

for event in [event for event in kitchen if getattr(event, "task_id", None) in dish_of][:14]:
    what = type(event).__name__.removeprefix("Task").lower()
    print(f"{event.time_s - opening:6.3f} s   dish {dish_of[event.task_id]:<2}  {what}")

# %% [markdown]
# Look for a dish that was submitted long before it was dispatched. It waited for a cook.
#
# And here is the whole evening, as the view drew it in the end:

# %% tags=["picture"]
from IPython.display import SVG

SVG(view.snapshot())

# %% [markdown]
# ## 8 · In real Ray
#
# Everything in this lesson is Ray's own programming model: `remote`, `get`, `wait`, references as
# arguments, retries. Go back to the first cell, write `ENGINE = "ray"`, restart the kernel and run it all
# again. (You need real Ray for it: `pip install ray`.) The programs are the same, and so are the results.
#
# Two things differ. The live views and the questions to the trace are minray's own: on Ray the views stay
# empty, and the cards judge values only. And real Ray takes some seconds to start, because it is made for a
# thousand machines and not for one lesson.
#
# ## 9 · The source that did it
#
# minray is made to be read. This is the way that your first task took, and the names to look for:
#
# | step | what does it |
# |---|---|
# | you call `slow_square.remote(x)` | `minray.api.remote_function.RemoteFunction` |
# | the call is queued, a reference is made | `minray.worker.submission.Submission.submit` |
# | a worker is found: who gets a CPU next? | `minray.raylet.state.leases.LeaseTable` |
# | the worker runs your function | `minray.worker.executor.Executor.run_queue` |
# | the result comes back | `minray.worker.replies.Replies.on_reply` |
# | `ray.get` wakes up | `minray.worker.waiting.Waiting.get` |
# | a worker died: what was it doing? | `minray.worker.deaths.Deaths.on_peer_gone` |
# | the records behind the picture | `minray.base.events.TaskFinished` |
# | "how many at the same time?" | `minray.grading.trace.max_overlap` |
#
# Any of them can be opened right here:

# %%
import inspect

print(inspect.getsource(trace.max_overlap))
print(inspect.getsource(trace.peak_of))

# %% [markdown]
# ## 10 · Recap
#
# - `f.remote(x)` starts a task and returns a **reference** at once. `ray.get` waits for the result.
# - **Submit everything first, get last.** For results one by one, use `ray.wait`.
# - Pass **references** from task to task. What you do not fetch costs your notebook nothing.
# - Exceptions arrive at `ray.get`. Dead workers are replaced, and their tasks run again.
#
# Three questions to finish with. Commit your answers, then run the folded cell below them.

# %%
from IPython.display import display

recap = [
    PredictView(
        "When does the code of a task start to run?",
        kind="choice",
        options=["when you call ray.get", "when you define it", "as soon as a CPU is free"],
    ),
    PredictView(
        "Ten tasks of 1 s on four CPUs, all submitted first. How long until the last one is done?",
        kind="choice",
        options=["1 s", "3 s", "4 s", "10 s"],
    ),
    PredictView(
        "b = f.remote(a), where a is a reference. What does the function f get?",
        kind="choice",
        options=["the value behind the reference", "the reference", "nothing, until you call ray.get(a)"],
    ),
]
display(*recap)

# %% jupyter={"source_hidden": true}
for question, right, why in zip(
    recap,
    ["as soon as a CPU is free", "3 s", "the value behind the reference"],
    [
        "ray.get only waits. The task is on its way since .remote().",
        "Four in the first second, four in the next one, two in the third.",
        "The runtime waits for the value and passes it on.",
    ],
):
    question.reveal(right, why)

# %% [markdown]
# *Next: [lesson 02](../02_objects/lesson.ipynb) looks at the objects behind the references. Where do they
# live, and who owns them?*

# %%
ray.shutdown()
