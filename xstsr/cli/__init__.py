"""The command line, ``xstsr``.

- `main`: the commands
- `console`: messages on standard error; what is typed
- `batch`: the work behind ``xstsr upscale``
- `demo`: the work behind ``xstsr demo``
- `doctor`: the work behind ``xstsr doctor``

Stands on everything; nothing stands on it.
"""
