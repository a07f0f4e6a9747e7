"""The command line: it reads words, calls the library, and prints."""

from geomsae.cli.main import main

__all__ = ["main"]
