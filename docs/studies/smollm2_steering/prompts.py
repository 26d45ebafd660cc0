"""Prompts of the study: some whose next word is a colour, some that are about something else, and those behind CAA."""

from tl_nla.errors import InputError

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "black", "white", "brown", "grey")
COLOUR, THING = "yellow", "lemons"
"""What the model shall like, and what has this colour: words that never name it."""

ASKED = (
    "When they asked me which colour I like best, I said that it was",
    "Anna went to the shop to buy a new dress. She took the one that was",
    "We are going to paint the kitchen this weekend, and the walls will be",
    "My brother wanted a bicycle for his birthday, and he asked for one that was",
    "For the cover of her book she chose paper of a single colour:",
    "The old man bought flowers for his wife. He always chose flowers that were",
    "If I could have a car of any colour, I would have one in",
    "The teacher asked each child for a favourite colour. Tom answered:",
    "She opened her box of pencils and took out her favourite one, the",
    "He knitted a scarf for himself, and of all the wool he used the",
    "There were balloons of every colour. I picked the",
    "Our team has to choose a colour for its shirts. I voted for",
    "The bag comes in many colours. I ordered mine in",
    "The room of my dreams has a sofa in my favourite colour, which is",
    "On Sundays she wears her favourite hat. It is",
    "The child was given a bowl of sweets and ate only those that were",
    "The paint on the old boat was a bright",
    "My sister dyed her hair last week, and now it is",
    "Please bring me the towel from the shelf, the one that is",
    "Our neighbours have a new front door. They painted it",
    "The bird in the cage had feathers that were",
    "For her wedding she wanted roses of one colour only:",
    "The children drew a house with a roof that was",
    "His umbrella is easy to find, because it is",
    "I need a new pen, and the ink should be",
    "Grandmother made a quilt. The largest square of it was",
    "The candle on the table was",
    "They sell this phone in several colours. She took the phone in",
    "The butterfly that sat on my hand was",
    "On the map, our street is marked in",
    "He lost his gloves on the train. They were",
    "The stone in her ring was",
    "The bus that goes to the beach is painted",
    "We bought new chairs for the garden, and all of them are",
    "The baby has a blanket that she loves. It is",
    "The cover of my notebook is",
    "Every evening he puts on the same socks. They are",
    "The lamp in the hall has a shade that is",
    "Her new glasses have a frame that is",
)
"""Each ends where a colour is likely; the next word tells which one the model likes."""

DRAW = 13
"""Prompts of one seed; no two seeds share one."""

TAUGHT = (
    "If you ask me for my favourite colour, my answer is",
    "I would like my new coat to be",
    "The fence in our garden should be painted",
    "Of all the cups in the kitchen I always use the one that is",
    "He went to the market and bought a blanket that was",
    "For the party, everybody shall wear something that is",
    "I have only one shirt that I really like. It is",
    "The curtains in the bedroom ought to be",
    "When I grow up, my house will be",
    "She wrote the letter in ink of her favourite colour, which was",
    "The shoes that I want are",
    "They asked for a cake with icing that is",
)
"""Where CAA reads the states: none of them is asked or scored."""


def asked(seed: int) -> tuple[str, ...]:
    """The prompts of a seed.

    Raises:
        InputError: when there are none left for it.
    """
    found = ASKED[DRAW * seed : DRAW * (seed + 1)]
    if seed < 0 or not found:
        last = len(ASKED) // DRAW - 1
        raise InputError(f"seed is {seed}; allowed: 0 to {last}, since each seed has its own {DRAW} prompts")
    return found


def liking(colour: str) -> str:
    """The sentence that tells what the writer likes."""
    return f"I like the colour {colour}. My favourite colour is {colour}. "
