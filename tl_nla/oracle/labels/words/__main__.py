"""Make the list of English words from a folder of Debian's lists."""

import sys
from pathlib import Path

from tl_nla.oracle.labels.words import listed

folder = Path(sys.argv[1])
large, small = (
    [word for name in names for word in (folder / name).read_text("utf-8").split()]
    for names in (("american-english", "british-english"), ("american-english-small",))
)
Path(__file__).with_name("english.txt.gz").write_bytes(listed(large, small))
