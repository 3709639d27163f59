"""The command line: Typer commands and rendering, and the only place that turns errors into exit codes.

`run.main` is the way in. `app` and the `commands_*` modules declare the commands and import the library only when one
runs, so that `--help` stays light; `place` finds the library, `labels` reads `--labels`, `output` and `render` write.
"""
