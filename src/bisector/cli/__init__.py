"""The command line: one file a command.

A command is a module with a docstring whose first line is its help, `add_arguments(parser)` and
`run(arguments, command)`. None imports torch before `run`.
"""
