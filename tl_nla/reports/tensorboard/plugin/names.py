"""Names shared by writer and server, in a module of their own: the server must not import torch to know them."""

PLUGIN_NAME = "tl_nla_contributions"
TAG_PREFIX = "contributions/"
SCHEMA = 1
SAMPLES_FLAG = f"--samples_per_plugin {PLUGIN_NAME}=1000"
"""TensorBoard keeps a sample of the steps of every tag; this option of its command line makes it keep more."""
