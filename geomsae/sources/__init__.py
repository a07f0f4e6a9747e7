"""Where decoders come from: files, folders, the Hub, and directions drawn at random.

`find` turns what a user names into offers; an offer opens into a decoder, which streams its rows.
"""

from geomsae.sources.decoder import Decoder, FileDecoder, Offer, Wanted
from geomsae.sources.families import register_family
from geomsae.sources.family import Family
from geomsae.sources.find import find
from geomsae.sources.random import RandomDecoder

__all__ = [
    "Decoder",
    "Family",
    "FileDecoder",
    "Offer",
    "RandomDecoder",
    "Wanted",
    "find",
    "register_family",
]
