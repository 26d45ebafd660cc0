"""``python -m tl_nla.smollm2``: find or convert the weights once, and say where they are."""

import sys

from tl_nla.errors import InputError
from tl_nla.smollm2.weights import find_weights

if __name__ == "__main__":
    try:
        sys.stdout.write(f"SmolLM2-135M-Instruct is in {find_weights()}\n")
    except InputError as error:
        sys.exit(f"tl-nla: {error}")
