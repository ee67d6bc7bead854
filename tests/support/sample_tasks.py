"""Sample tasks: some that are difficult to lay out, and any number of ordinary ones."""

import random

HARD_TO_DRAW = [
    ("Book the dentist", ""),
    ("Call the landlord about the heating", "Ask for Tuesday or Wednesday.\nNumber on the fridge."),
    ("לקנות חלב 🥛 ולחם", "מהמכולת בפינה"),
    ("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2, ""),
    ("Read the tax letter", "https://example.com/" + "a-very-long-address/" * 12),
    ("Minutes of the meeting", "\n".join(f"{number}. A point of order" for number in range(1, 30))),
    ("Buy milk", "Oat, two of them"),
    ("Water the plants", ""),
]
COMPLETED = ("Water the plants", "Minutes of the meeting")
_WORDS = """
about address after again agree airport album always answer apples April arrange ask August aunt
autumn bakery balcony bank before better bicycle bill birthday blanket blue boiler book borrow
bottle bread bring brother broken budget build buy cable cake calendar call camera cancel candles
carpet ceiling change charge cheap check cheese children choose clean clock coffee collect
colleague compare confirm contract cook copy corner cupboard curtain dentist deposit dinner doctor
door draft drill early electricity email empty evening exchange expensive family fence festival
find finish fix flat flowers folder form fridge Friday garage garden gift glasses grandmother green
hallway hammer heating holiday hospital hotel invite invoice January June keys kitchen ladder lamp
landlord late laundry lawn leave letter library list lock luggage measure meeting message meter
milk mirror Monday mortgage mother music neighbour notebook number office oil onions order outside
oven package paint paper park passport pay phone photos piano pick plants plumber potatoes present
print project quiet radio railway receipt recipe remind rent repair reply reserve return roof room
salad Saturday school screws send September shelf shirt shoes shop sister slides soap sofa spare
stairs station stamps suitcase summer Sunday table tax teacher theatre ticket tomorrow tools towels
train tyres umbrella update upstairs vegetables visit wait wash water weather Wednesday weekend
window winter write
"""


def ordinary_tasks(number: int) -> list[tuple[str, str]]:
    """Return titles of about 40 and descriptions of about 100 characters, always the same."""
    choice = random.Random(number)  # noqa: S311  # for the same words each time, not for secrets
    return [(_sentence(choice, 40), _sentence(choice, 100) + ".") for _ in range(number)]


def _sentence(choice: random.Random, length: int) -> str:
    known = _WORDS.split()
    words = [choice.choice(known).capitalize()]
    while len(" ".join(words)) < length - 3:
        words.append(choice.choice(known))
    return " ".join(words)
