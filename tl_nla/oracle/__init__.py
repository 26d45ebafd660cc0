"""The diff oracle: labels of what writes do, a reader that says it in words, and vectors back from the words."""
