"""``python -m geomsae`` is the command line."""

from geomsae.cli import main

main()
