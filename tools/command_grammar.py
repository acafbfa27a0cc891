"""A small voice-command grammar, in English and in German side by side.

Both sides are drawn together, so the English text is an exact translation of the German one. A stable hash
of the English sentence decides whether a command is held out: sampling again never moves the split.
"""

from __future__ import annotations

import hashlib
import random
import string
from dataclasses import dataclass
from typing import Final

Pair = tuple[str, str]
HELD_OUT_SHARE_PERCENT: Final = 10

# Commands shorter than this are few and carry words found nowhere else: they always belong to training.
_HELD_OUT_MINIMUM_WORDS: Final = 5

_UNITS: Final[dict[int, Pair]] = {
    1: ("one", "ein"),
    2: ("two", "zwei"),
    3: ("three", "drei"),
    4: ("four", "vier"),
    5: ("five", "fünf"),
    6: ("six", "sechs"),
    7: ("seven", "sieben"),
    8: ("eight", "acht"),
    9: ("nine", "neun"),
}
_TENS: Final[tuple[Pair, ...]] = (
    ("twenty", "zwanzig"),
    ("thirty", "dreißig"),
    ("forty", "vierzig"),
    ("fifty", "fünfzig"),
)
_HOURS: Final[tuple[Pair, ...]] = (
    *(_UNITS[n] for n in range(2, 10)),
    ("ten", "zehn"),
    ("eleven", "elf"),
    ("twelve", "zwölf"),
)
# 21 to 59: English "twenty one" is German "einundzwanzig".
_COMPOUNDS: Final[tuple[Pair, ...]] = tuple(
    (f"{ten[0]} {unit[0]}", f"{unit[1]}und{ten[1]}") for ten in _TENS for unit in _UNITS.values()
)

_NAMES: Final = ("anna", "peter", "martin", "sarah", "julia")

SLOTS: Final[dict[str, tuple[Pair, ...]]] = {
    "number": (*_HOURS, *_TENS, *_COMPOUNDS),
    "hour": _HOURS,
    "level": (*_TENS, *_COMPOUNDS),
    "unit": (("minutes", "minuten"), ("seconds", "sekunden"), ("hours", "stunden")),
    "switch": (("on", "ein"), ("off", "aus")),
    "device": (
        ("the light", "das licht"),
        ("the lamp", "die lampe"),
        ("the radio", "das radio"),
        ("the heater", "die heizung"),
        ("the fan", "den ventilator"),
        ("the television", "den fernseher"),
    ),
    "place": (
        ("in the kitchen", "in der küche"),
        ("in the bedroom", "im schlafzimmer"),
        ("in the bathroom", "im badezimmer"),
        ("in the garage", "in der garage"),
        ("in the garden", "im garten"),
        ("in the office", "im büro"),
    ),
    "opening": (("the door", "die tür"), ("the window", "das fenster"), ("the blinds", "die jalousien")),
    "color": (
        ("red", "rot"),
        ("blue", "blau"),
        ("green", "grün"),
        ("yellow", "gelb"),
        ("white", "weiß"),
        ("purple", "lila"),
    ),
    "sound": (
        ("jazz", "jazz"),
        ("classical music", "klassische musik"),
        ("quiet music", "ruhige musik"),
        ("my favorite songs", "meine lieblingslieder"),
        ("the news", "die nachrichten"),
    ),
    "name": tuple((name, name) for name in _NAMES),
    "person": (
        *((name, name) for name in _NAMES),
        ("my mother", "meine mutter"),
        ("my brother", "meinen bruder"),
        ("the doctor", "den arzt"),
    ),
    "target": (
        ("the station", "zum bahnhof"),
        ("the airport", "zum flughafen"),
        ("the hospital", "zum krankenhaus"),
        ("the school", "zur schule"),
        ("the supermarket", "zum supermarkt"),
        ("the museum", "zum museum"),
    ),
    "weekday": (
        ("monday", "montag"),
        ("tuesday", "dienstag"),
        ("wednesday", "mittwoch"),
        ("thursday", "donnerstag"),
        ("friday", "freitag"),
        ("saturday", "samstag"),
        ("sunday", "sonntag"),
    ),
    "food": (
        ("milk", "milch"),
        ("bread", "brot"),
        ("cheese", "käse"),
        ("apples", "äpfel"),
        ("eggs", "eier"),
        ("butter", "butter"),
        ("sugar", "zucker"),
        ("coffee", "kaffee"),
    ),
    "other_food": (("salt", "salz"), ("tea", "tee"), ("rice", "reis"), ("potatoes", "kartoffeln")),
    "short": (
        ("stop", "stopp"),
        ("good night", "gute nacht"),
        ("play the next song", "spiele das nächste lied"),
        ("pause the music", "unterbrich die musik"),
        ("what time is it", "wie spät ist es"),
        ("thank you", "danke"),
    ),
}


@dataclass(frozen=True)
class Template:
    """One command pattern in both languages; `weight` is its relative frequency."""

    english: str
    german: str
    weight: int


TEMPLATES: Final = (
    Template("turn {switch} {device}", "schalte {device} {switch}", 4),
    Template("turn {switch} {device} {place}", "schalte {device} {place} {switch}", 10),
    Template("turn {switch} {device} at {hour}", "schalte {device} um {hour} {switch}", 8),
    Template("turn {switch} {device} {place} at {hour}", "schalte {device} {place} um {hour} {switch}", 8),
    Template("open {opening} {place}", "öffne {opening} {place}", 5),
    Template("close {opening} {place} at {hour}", "schließe {opening} {place} um {hour}", 8),
    Template("change the light {place} to {color}", "ändere das licht {place} auf {color}", 8),
    Template("set a timer for {number} {unit}", "stelle einen timer auf {number} {unit}", 10),
    Template("wake me on {weekday} at {hour}", "wecke mich am {weekday} um {hour}", 8),
    Template("set the heater to {level} degrees", "stelle die heizung auf {level} grad", 5),
    Template("set the volume to {level} percent", "stelle die lautstärke auf {level} prozent", 5),
    Template("play {sound}", "spiele {sound}", 3),
    Template("play {sound} {place}", "spiele {sound} {place}", 7),
    Template("call {person}", "rufe {person} an", 3),
    Template("call {person} on {weekday} at {hour}", "rufe {person} am {weekday} um {hour} an", 7),
    Template("send a message to {name}", "schicke {name} eine nachricht", 3),
    Template("navigate to {target}", "navigiere {target}", 3),
    Template("how far is it to {target}", "wie weit ist es {target}", 3),
    Template("what is the weather on {weekday}", "wie wird das wetter am {weekday}", 3),
    Template("add {food} and {other_food} to the list", "setze {food} und {other_food} auf die liste", 8),
    Template("remind me on {weekday} to buy {food}", "erinnere mich am {weekday} daran {food} zu kaufen", 8),
    Template("{short}", "{short}", 4),
)
_POLITE: Final[Pair] = ("please", "bitte")
_POLITE_SHARE: Final = 0.25


@dataclass(frozen=True)
class Command:
    """One command; `english` is both the English text and the translation of `german`."""

    english: str
    german: str

    @property
    def held_out(self) -> bool:
        """True for the stable tenth of all longer sentences that training never sees."""
        if len(self.english.split()) < _HELD_OUT_MINIMUM_WORDS:
            return False
        digest = hashlib.sha256(self.english.encode()).digest()
        return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_SHARE_PERCENT

    def text(self, language: str) -> str:
        """The spoken words in `language` ("en" or "de")."""
        return {"en": self.english, "de": self.german}[language]


def draw_command(rng: random.Random) -> Command:
    """One command, template by weight and every slot uniformly."""
    template = rng.choices(TEMPLATES, weights=[t.weight for t in TEMPLATES])[0]
    fields = [name for _, name, _, _ in string.Formatter().parse(template.english) if name]
    chosen = {name: rng.choice(SLOTS[name]) for name in fields}
    english = template.english.format(**{name: pair[0] for name, pair in chosen.items()})
    german = template.german.format(**{name: pair[1] for name, pair in chosen.items()})
    if rng.random() < _POLITE_SHARE and template.english != "{short}":
        english, german = f"{_POLITE[0]} {english}", f"{_POLITE[1]} {german}"
    return Command(english, german)


def draw_commands(rng: random.Random, count: int, *, held_out: bool) -> list[Command]:
    """`count` commands of one side of the split, repeats allowed."""
    commands: list[Command] = []
    while len(commands) < count:
        command = draw_command(rng)
        if command.held_out is held_out:
            commands.append(command)
    return commands
