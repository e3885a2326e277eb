"""How fast is minray beside what one would use instead? One workload, a child process per runtime and round.

`workload.py` is a program of its own: it runs by path under any interpreter and imports only the
runtime it measures. `race.py` starts the children, interleaved; `report.py` draws the table.
"""
