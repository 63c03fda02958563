"""Places: find a shortcut, judge it, and exchange it.

A network that was trained plainly for a few epochs shows the shortcut. `search` finds out where it
looks, and judges from the training and validation parts whether that is an artefact.
"""

from ppi_med.places.account import Account
from ppi_med.places.ask import difference_map, top_place
from ppi_med.places.decision import accepted_place, write_decision
from ppi_med.places.exchange import (
    Blank,
    EvenOutside,
    ExchangePlaced,
    PlaceBank,
    Projection,
    StyleBank,
)
from ppi_med.places.judge import Verdict, constancy, judge_place
from ppi_med.places.marks import Form, MovingMark, find_mark
from ppi_med.places.probe import exchange_effect
from ppi_med.places.search import Place, Search, SearchSettings, search
from ppi_med.places.stack import ImageStack, Partners, exchanged
from ppi_med.places.texture import Neutral, Texture, texture

__all__ = [
    "Account",
    "Blank",
    "EvenOutside",
    "ExchangePlaced",
    "Form",
    "ImageStack",
    "MovingMark",
    "Neutral",
    "Partners",
    "Place",
    "PlaceBank",
    "Projection",
    "Search",
    "SearchSettings",
    "StyleBank",
    "Texture",
    "Verdict",
    "accepted_place",
    "constancy",
    "difference_map",
    "exchange_effect",
    "exchanged",
    "find_mark",
    "judge_place",
    "search",
    "texture",
    "top_place",
    "write_decision",
]
