"""The command line: it reads words, calls the library, and prints."""

try:
    from geomsae.cli.main import main
except KeyboardInterrupt:  # asked to leave before anything was begun
    raise SystemExit("Error: interrupted before anything was begun: run again") from None

__all__ = ["main"]
