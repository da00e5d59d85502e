"""Generate titles of movies that do not exist."""

import numpy as np
from numpy.typing import NDArray

_ADJECTIVES = """
Amber Bashful Borrowed Brittle Cobalt Copper Counterfeit Crooked Dappled Drowsy Eleventh Feathered Forgetful Gilded
Grumbling Half-Lit Hollow Hushed Inverted Ironclad Jagged Knitted Lacquered Lopsided Magnetic Marbled Misfiled
Mothproof Nimble Obstinate Ochre Overdue Paper Patient Peppered Plaid Powdered Quilted Reluctant Rusted Saffron Salted
Sevenfold Shuttered Sleepless Slanted Tangled Tardy Tidal Tin Unposted Upholstered Varnished Velvet Wandering Waxen
Whispering Wintering Woollen Zigzag
"""
_NOUNS = """
Abacus Almanac Anchor Apiary Aqueduct Archivist Arcade Balcony Barometer Beekeeper Bellows Bicycle Bookbinder
Cartographer Carousel Chandler Clockmaker Compass Conductor Corridor Cuckoo Dirigible Dovecote Drawbridge Envelope
Equinox Ferryman Fiddler Flotilla Funicular Gondola Gramophone Granary Harbour Haystack Heirloom Hourglass Icehouse
Inkwell Juggler Kettle Lantern Ledger Lighthouse Locksmith Mandolin Marmot Meridian Metronome Milliner Mooring
Nightcap Orchard Ottoman Paperweight Parasol Pendulum Periscope Piccolo Postmaster Pumpkin Quarry Quartet Rainmaker
Riddle Rookery Sandbar Scaffold Semaphore Sextant Signalman Snowdrift Stowaway Sundial Tambourine Teacup Telegram
Thimble Tollbooth Tramway Trombone Turnip Turnstile Umbrella Vestibule Viaduct Violet Wardrobe Weathervane Windmill
Yardstick Zeppelin
"""
_PLACES = "Brinmoor Älvholm Castellune Dunwhistle Érables Fogmarch Grönvik Hexley Quillmoor Søndrup Vérane Wexcombe"
_FRENCH_NOUNS = "Lanterne Forêt Rivière Étoile Fenêtre Échelle Girouette Île"
_FRENCH_ADJECTIVES = "oubliée égarée dorée fêlée secrète enchantée"
ADJECTIVES, NOUNS, PLACES = ("", *_ADJECTIVES.split()), tuple(_NOUNS.split()), tuple(_PLACES.split())
FRENCH_NOUNS, FRENCH_ADJECTIVES = tuple(_FRENCH_NOUNS.split()), tuple(_FRENCH_ADJECTIVES.split())


def invented_titles(rng: np.random.Generator, years: NDArray[np.int64]) -> list[str]:
    """Return unique titles with the year, [movies]; each uses a different pair of adjective and noun."""
    pairs = rng.choice(len(ADJECTIVES) * len(NOUNS), len(years), replace=False)
    titles = []
    for pair, year, style in zip(pairs, years, rng.permutation(len(years)) % 100, strict=True):
        text = f"{ADJECTIVES[pair // len(NOUNS)]} {NOUNS[pair % len(NOUNS)]}".strip()
        if style % 10 == 0:
            text += f" of {rng.choice(PLACES)}"
        if style < 24:
            text += ", The" if style < 18 else ", An" if text[0] in "AEIOU" else ", A"
        if 21 <= style < 28:
            text += f" ({rng.choice(FRENCH_NOUNS)} {rng.choice(FRENCH_ADJECTIVES)})"
        titles.append(f"{text} ({year})")
    return titles
