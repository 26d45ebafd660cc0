"""An oracle whose verbalizer and reconstructor share a code of words: fitted in closed form on any model.

Words are chosen so that *the reader of the words* comes as close to the write as it can, one word after the other.
"""

from tl_nla.oracle.words.code import WordCode
from tl_nla.oracle.words.fitting import FitConfig, fit_code
from tl_nla.oracle.words.oracle import WordOracle
from tl_nla.oracle.words.tables import WordTables

__all__ = ["FitConfig", "WordCode", "WordOracle", "WordTables", "fit_code"]
