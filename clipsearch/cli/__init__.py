"""The command line: Typer commands and rendering, and the only place that turns errors into exit codes.

`run.main` is the entry point. `app` and `commands/` declare the commands and import the library only when one runs, so
that `--help` stays light. `place` finds the library; `arguments`, `filters` and `labels` read what options are given;
`output` and `render/` write results.
"""
