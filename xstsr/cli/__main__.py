"""Run the command line as ``python -m xstsr.cli``."""

from xstsr.cli.main import main

main()
