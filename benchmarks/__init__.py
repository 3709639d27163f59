"""What clipsearch takes, beside what the machine and other tools take, measured in one run: `python -m benchmarks`.

The process that measures stays small and imports nothing heavy: Linux counts its memory to the peak of what it starts.
Work that needs numpy, torch or the library itself runs in workers (`worker`, `tasks`); commands are run and timed as a
user runs them (`processes`). A module in `rows` turns both into the rows of the table.
"""
