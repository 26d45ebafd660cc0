"""Documents of the story world."""

from tl_nla.data.documents import Document
from tl_nla.storyworld.generator import write_story


def world_documents(count: int, seed: int = 0, start: int = 0) -> list[Document]:
    """Stories ``start`` to ``start + count`` of stream ``seed`` of the story world."""
    return [Document(f"world/{seed}/{i}", write_story(seed, i).text) for i in range(start, start + count)]
