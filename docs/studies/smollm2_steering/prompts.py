"""Prompts of the study: some whose next word is a colour, some that are about something else, and those behind CAA."""

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
)
"""Each ends where a colour is likely; the next word tells which one the model likes."""

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


def liking(colour: str) -> str:
    """The sentence that tells what the writer likes."""
    return f"I like the colour {colour}. My favourite colour is {colour}. "
