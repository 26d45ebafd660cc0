"""Four wordings of each claim of the story world, in words that its models know.

The first is the one explanations are written in.
"""

# Colours stand last: "The cup was red." fits no other form, yet "It is about Tom." must not become a colour.
FORMS: dict[str, tuple[str, ...]] = {
    "recent": ('Recent words: "{a}".', 'The Last words: "{a}".', 'It reads "{a}".', 'The Recent words: "{a}".'),
    "who": ("This is about {a}.", "It is about {a}.", "This was about {a}.", "It was about {a}."),
    "next": ("Next: {a}.", "Next words: {a}.", "It promotes {a}.", "The Next words: {a}."),
    "where": ("{a} is at the {b}.", "{a} was at the {b}.", "{a} came to the {b}.", "{a} looked around the {b}."),
    "what": ("{a} has the {b}.", "{a} had the {b}.", "{a} carried the {b}.", "{a} held up the {b}."),
    "inside": ("The {a} is in the {b}.", "The {a} was in the {b}.", "The {a} stayed in the {b}.",
               "It reads the {a} in the {b}."),
    "feeling": ("{a} feels {b}.", "{a} felt {b}.", "{a} was very {b}.", "{a} looked {b}."),
    "colour": ("The {a} is {b}.", "The {a} was {b}.", "The {a} painted {b}.", "It is the {a} painted {b}."),
}  # fmt: skip
