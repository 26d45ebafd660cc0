"""The closed vocabulary of the story world: who, where, what, which colour, which feeling."""

NAMES = (
    "Tom Lily Ben Mia Sam Anna Max Zoe Leo Eva Jack Rosa Finn Nora Paul Ruby Hugo Clara Oscar Ivy Noah Ella Omar Jane"
).split()
PLACES = (
    "kitchen garden school park beach forest market library farm castle museum station harbor village "
    "bakery church theater valley"
).split()
OBJECTS = (
    "ball book kite apple hat boat drum lamp rope coin cake key cup ring doll flute basket blanket mirror pencil "
    "candle hammer"
).split()
COLOURS = "red blue green yellow black white pink gray purple brown".split()
FEELINGS = "happy sad angry scared tired proud calm lonely bored curious".split()
CONTAINERS = "box bag drawer chest bucket cupboard".split()
ANIMALS = "dog cat bird fish horse frog rabbit duck goat mouse".split()
WEATHERS = "sunny rainy windy snowy cloudy foggy".split()
TIMES = "morning afternoon evening night day".split()
FOODS = "bread soup cheese rice honey pie".split()

SLOTS: dict[str, tuple[str, ...]] = {
    "A": tuple(NAMES),
    "B": tuple(NAMES),
    "place": tuple(PLACES),
    "object": tuple(OBJECTS),
    "colour": tuple(COLOURS),
    "feeling": tuple(FEELINGS),
    "container": tuple(CONTAINERS),
    "animal": tuple(ANIMALS),
    "weather": tuple(WEATHERS),
    "time": tuple(TIMES),
    "food": tuple(FOODS),
}
"""Every slot of a sentence template with the words that may fill it."""
