"""A sweep: `-m` runs every job as a command in a process of its own, and tells what came of them.

A fresh process frees all memory, starts its own distributed children with its own words and cannot
mix its logger's run with the next one's. `running.py` is the loop; `grid.py` or `study.py` decides
which job comes next, `jobs.py` or `slurm.py` is a job of this machine or of a cluster.
"""
